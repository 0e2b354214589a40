"""Whether what a task hands over is of the kind that its API promises; a Violation says what it is.

The rules look at values; that these are there to be looked at is made sure of here, in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from orchestra.check.mistakes import Violation
from orchestra.tasks import LossTerms, Prediction
from orchestra.wire.manifest import Utterance


def utterances(value: Any, split: str) -> list[Utterance]:
    """What `utterances` gives."""
    what = f"utterances({split!r})"
    _require(value, list, what, "a list of orchestra.wire.manifest.Utterance")
    for each in value:
        _require(each, Utterance, f"an item of {what}", "an orchestra.wire.manifest.Utterance")
        _require(each.id, str, f"the id of an item of {what}", "text")
    found: list[Utterance] = value
    return found


def learnt(value: Any) -> dict[str, Any]:
    """What `learn` gives."""
    _require(value, dict, "learn()", "a dict")
    found: dict[str, Any] = value
    return found


def targets(value: Any) -> None:
    """What `collate` gives."""
    _require(value, Mapping, "collate()", "a dict of tensors")
    for name, each in value.items():
        _require(each, Tensor, f"collate()[{name!r}]", "a tensor")


def head(value: Any) -> None:
    """What `build_head` gives."""
    _require(value, nn.Module, "build_head()", "a torch.nn.Module")


def terms(value: Any) -> LossTerms:
    """What `loss` gives."""
    _require(value, LossTerms, "loss()", "orchestra.tasks.LossTerms(sum, weight)")
    found: LossTerms = value
    for name, each in {"sum": found.sum, "weight": found.weight, **found.scalars}.items():
        _require(each, Tensor, f"{name} of loss()", "a tensor, such as torch.tensor(1.0)")
        if each.ndim != 0:
            raise Violation(f"loss: {name} has shape {tuple(each.shape)}; it must be a scalar")
    return found


def records(value: Any) -> list[Prediction]:
    """What `predict` gives."""
    _require(value, Sequence, "predict()", "a list with a dict for each utterance")
    for each in value:
        _require(each, dict, "an item of predict()", "a dict with id and what was recognised")
    return list(value)


def record(value: Any) -> Prediction:
    """What `refer` gives."""
    _require(value, dict, "refer()", "a dict: the prediction with what score compares it to")
    found: Prediction = value
    return found


def metrics(value: Any) -> dict[str, float]:
    """What `score` gives."""
    _require(value, Mapping, "score()", "a dict of numbers by metric")
    return dict(value)


def _require(value: Any, kind: type, what: str, wanted: str) -> None:
    if not isinstance(value, kind) or (kind is Sequence and isinstance(value, str)):
        is_ = "None" if value is None else f"of type {type(value).__name__}"
        raise Violation(f"{what} is {is_}; give {wanted}")
