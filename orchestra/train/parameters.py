"""What a model consists of: parameters by part, and how many of them are trained.

Counts only; the start record and rank 0's log show the table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Row:
    """A part: upstream, featurizer, head.<child>."""

    part: str
    parameters: int
    trainable: int
    """Of them, those that get gradients now."""
    later: int = 0
    """And those that will, by optim.freeze."""


def parameter_table(model: nn.Module, later: Collection[nn.Parameter] = frozenset()) -> list[Row]:
    """Parts with parameters, in the model's order; a tied parameter counts where it comes first.

    Args:
        later: parameters that are trained in a later step.
    """
    counts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        count = counts.setdefault(_part(name), [0, 0, 0])
        count[0] += parameter.numel()
        count[1] += parameter.numel() if parameter.requires_grad else 0
        count[2] += parameter.numel() if parameter in later else 0
    return [Row(part, *count) for part, count in counts.items()]


def table_document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """JSON objects; `share` is the part's of all parameters."""
    total = sum(row.parameters for row in rows)
    return [{**asdict(row), "share": row.parameters / total} for row in rows]


def _part(name: str) -> str:
    """`head.rnn.weight` belongs to head.rnn, `head.weight` and `upstream.a.weight` to the first."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first == "head" and len(rest) > 1 else first
