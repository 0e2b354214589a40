"""Takes one micro-batch again with everything watched, and says what went wrong and where first.

For `orchestra replay` alone: hooks on every module and autograd's anomaly mode are far too slow
for training.
"""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from orchestra.config.schema import RunConfig
from orchestra.tasks import Batch, LossTerms
from orchestra.train.precision import LOWEST_SCALE, autocast
from orchestra.train.seeds import reseed_step
from orchestra.wire.capsules import Reason
from orchestra.wire.errors import OrchestraError

_NAN_IN_BACKWARD = re.compile(r"Function '(\w+)' returned nan values")
_NAN = "NaN"
_FOREIGN = (f'File "{Path(torch.__file__).parent}/', ", in __torch_function__\n")
"""In frames that tell nothing: torch's own, and the watch's."""


@dataclass(frozen=True)
class Finding:
    """What went wrong in a micro-batch."""

    what: Reason
    tensor: str
    """What was not finite first, such as `output of head.inner (NaN)`; may be empty for an
    exception."""
    error: str
    """`ValueError: boom`; empty unless there was an exception."""
    traceback: str
    """Of the exception, of the call that made the first NaN, or of that whose gradient is NaN;
    empty where none is known."""

    def like(self, other: Finding) -> bool:
        """The same kind; numbers in an exception's message (shapes, sizes) may differ."""
        return (self.what, _kind(self.error)) == (other.what, _kind(other.error))


def examine(
    config: RunConfig, model: nn.Module, step: int, micro: int, part: int, batch: Batch
) -> Finding | None:
    """Forward and backward as training does them; None if all is well.

    Gradients are added to those there are, as in a step.

    Args:
        step, micro, part: what the step was seeded with.

    Raises:
        OrchestraError: as in training.
    """
    first = FirstNonFinite(model)
    birth = _BirthOfNaN()
    caught: list[warnings.WarningMessage]
    with first, warnings.catch_warnings(record=True) as caught, torch.autograd.detect_anomaly():
        warnings.simplefilter("always")
        reseed_step(config.seed, step, micro, part)
        try:
            with autocast(config.train, batch.wavs.device), birth:
                terms: LossTerms = model(batch)
            first.look("loss", terms.sum)
            # What fp16 scales losses with where a gradient that is not finite is a bug.
            scale = LOWEST_SCALE if config.train.precision == "fp16" else 1.0
            (terms.sum * scale).backward()  # type: ignore[no-untyped-call]
        except OrchestraError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a task raises is what is looked for
            told = [str(each.message) for each in caught]
            return _of_exception(error, first.name, birth.traceback, told)
    loss_is_finite = bool(terms.sum.detach().isfinite())
    first.look_at_gradients(model)
    if loss_is_finite and not first.gradient:
        return None
    return Finding("not finite", first.name or first.gradient, "", birth.traceback)


class FirstNonFinite:
    """Watches the inputs and outputs of all modules while active.

    Keeps the first infinity and the first NaN: an infinity may be a mask's, or where it began.
    """

    def __init__(self, model: nn.Module) -> None:
        self._found: dict[str, str] = {}  # what -> where, in the order of time
        self.gradient = ""
        self._model = model
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> FirstNonFinite:
        for path, module in self._model.named_modules():
            name = path or "the model"
            self._handles.append(
                module.register_forward_pre_hook(self._before(name), with_kwargs=True)
            )
            self._handles.append(module.register_forward_hook(self._after(name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def name(self) -> str:
        """Such as `output of head.inner (NaN)`; empty if all was finite so far."""
        return ", then ".join(f"{where} ({what})" for what, where in self._found.items())

    def look(self, name: str, value: Any) -> None:
        """Note `name` if it is the first that holds a NaN, or the first with an infinity."""
        if _NAN not in self._found and (what := _non_finite(value)):
            self._found.setdefault(what, name)

    def look_at_gradients(self, model: nn.Module) -> None:
        """The first parameter whose gradient is not finite."""
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and (what := _non_finite(parameter.grad)):
                self.gradient = f"gradient of {name} ({what})"
                return

    def _before(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, named: Any) -> None:
            self.look(f"input of {name}", (arguments, named))

        return hook

    def _after(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            self.look(f"output of {name}", output)

        return hook


class _BirthOfNaN(TorchFunctionMode):
    """Keeps the stack of the first call of torch that gave a NaN.

    Infinities are left alone: a mask may hold them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.traceback = ""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if not self.traceback and _is_made(func, output):
            self.traceback = _own_frames("".join(traceback.format_stack()[:-1]))
        return output


def _is_made(func: Any, output: Any) -> bool:
    """Whether the call computed a NaN; memory that was only reserved may look like one."""
    return _non_finite(output) == _NAN and "empty" not in getattr(func, "__name__", "")


def _of_exception(error: Exception, first: str, birth: str, told: list[str]) -> Finding:
    """`told`: warnings, in one of which anomaly mode tells the forward call."""
    if found := _NAN_IN_BACKWARD.search(str(error)):
        forward = next((text for text in told if "Traceback of forward call" in text), "")
        tensor = first or f"gradient in {found[1]} ({_NAN})"
        return Finding("not finite", tensor, "", birth or _own_frames(forward))
    text = _own_frames("".join(traceback.format_exception(error)))
    return Finding("exception", first, f"{type(error).__name__}: {error}", text)


def _own_frames(text: str) -> str:
    """The frames of a traceback from the model's call on, without those inside of torch."""
    frames = re.split(r"^(?=  File )", text.split(" (Triggered internally")[0], flags=re.MULTILINE)
    start = max((n for n, frame in enumerate(frames) if ", in examine\n" in frame), default=0)
    return "".join(f for f in frames[start + 1 :] if not any(mark in f for mark in _FOREIGN))


def _non_finite(value: Any) -> str:
    """NaN or "infinite" if a tensor somewhere in `value` is so; else empty."""
    tensors = [t.detach() for t in _tensors(value) if t.is_floating_point()]
    if any(bool(t.isnan().any()) for t in tensors):
        return _NAN
    return "" if all(bool(t.isfinite().all()) for t in tensors) else "infinite"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif is_dataclass(value):
        yield from _tensors([getattr(value, item.name) for item in fields(value)])


def _kind(error: str) -> str:
    return re.sub(r"\d+", "#", error)
