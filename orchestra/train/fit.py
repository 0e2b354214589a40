"""Whether named tensors fit those of a model, and where they don't. Pure; copies nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]

SHOWN_CHARACTERS = 130
"""So much of the differences is told: a failed run's reason holds no more than a few."""
_LEVELS = 2
"""Parts such as `head` and `head.encoder` are looked at, none below."""


def below(tensors: Tensors, parts: Collection[str]) -> dict[str, Tensor]:
    """Those whose name is one of `parts` or begins with one and a dot."""
    return {name: tensor for name, tensor in tensors.items() if lies_in(name, parts)}


def lies_in(name: str, parts: Collection[str]) -> bool:
    """Whether a dotted name is one of `parts` or lies below one."""
    return name in parts or name.startswith(tuple(f"{part}." for part in parts))


def misfits(own: Tensors, given: Tensors) -> list[str]:
    """How `given` differs from `own` in names, types and shapes: a few words each, by name."""
    found = []
    for name in sorted({*own, *given}):
        if name not in given:
            found.append(f"{name} {_kind(own[name])} is missing")
        elif name not in own:
            found.append(f"{name} {_kind(given[name])} is unknown")
        elif _kind(own[name]) != _kind(given[name]):
            found.append(f"{name} is {_kind(given[name])} instead of {_kind(own[name])}")
    return found


def shortened(found: list[str]) -> str:
    """How many there are, then in one line as many of the first as it holds, one at least."""
    shown = found[:1]
    while len("; ".join(found[: len(shown) + 1])) <= SHOWN_CHARACTERS and len(shown) < len(found):
        shown = found[: len(shown) + 1]
    count = f"{len(found)} tensors differ" if len(found) > 1 else "1 tensor differs"
    more = f"; and {len(found) - len(shown)} more" if len(shown) < len(found) else ""
    return f"{count}: {'; '.join(shown)}{more}"


def fitting_parts(own: Tensors, given: Tensors) -> list[str]:
    """The largest parts of the model that `given` has in full and in the same shapes."""
    fitting: list[str] = []
    for level in range(1, _LEVELS + 1):
        for part in sorted({".".join(name.split(".")[:level]) for name in own}):
            if lies_in(part, fitting):
                continue
            if not misfits(below(own, [part]), below(given, [part])):
                fitting.append(part)
    return sorted(fitting)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
