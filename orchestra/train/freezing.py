"""Which parameters are trained in which step (gradual unfreezing, Howard and Ruder 2018,
arXiv:1801.06146).

Only sets requires_grad and eval mode. DDP exchanges the gradients of those parameters alone that
required one when it was built: after a change the model must be wrapped anew and warmed up again,
or the new gradients stay different in every rank, silently.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from torch import nn

from orchestra.config.schema import FreezeConfig
from orchestra.train.model import SpeechModel
from orchestra.wire.errors import UsageError


class Freezing:
    """The schedule of one model.

    Making one takes requires_grad away from what is never trained, so that the optimizer and the
    average are built over what ever is: make them between this and the first `apply`.

    Raises:
        UsageError: a beginning matches no parameter or none that could be trained later, or there
            are steps in which nothing is trained.
    """

    def __init__(self, rules: Sequence[FreezeConfig], model: SpeechModel) -> None:
        self._model = model
        self._first_step: dict[nn.Parameter, float] = {}
        for rule in rules:
            until = math.inf if rule.until_step is None else rule.until_step
            for parameter in _matching(rule, model):
                self._first_step[parameter] = max(until, self._first_step.get(parameter, 0))
        candidates = [p for p in model.parameters() if p.requires_grad]
        _require_something_to_train([self._first_step.get(p, 0) for p in candidates])
        # A parameter that the model itself does not train stays as it is.
        self._first_step = {p: self._first_step[p] for p in candidates if p in self._first_step}
        for parameter, first_step in self._first_step.items():
            parameter.requires_grad_(first_step < math.inf)
        self._trained: set[nn.Parameter] | None = None

    def apply(self, step: int) -> bool:
        """Freeze and unfreeze as in step `step` (the first is 0); whether anything changed.

        A module all of whose parameters are frozen is in eval mode: no dropout, and BatchNorm
        keeps its statistics. The first call reports a change if anything is frozen.
        """
        trained = {p for p, first_step in self._first_step.items() if step >= first_step}
        before = set(self._first_step) if self._trained is None else self._trained
        self._trained = trained
        if trained == before:
            return False
        for parameter in self._first_step:
            parameter.requires_grad_(parameter in trained)
        self._model.keep_in_eval(self._frozen_modules())
        return True

    def later(self) -> set[nn.Parameter]:
        """What is not trained now, but will be."""
        trained = self._trained or set()
        return {p for p, step in self._first_step.items() if step < math.inf and p not in trained}

    def _frozen_modules(self) -> list[nn.Module]:
        """Modules without a trained parameter, at least one being frozen by this schedule."""
        found = []
        for module in self._model.modules():
            parameters = list(module.parameters())
            by_schedule = any(parameter in self._first_step for parameter in parameters)
            if by_schedule and not any(parameter.requires_grad for parameter in parameters):
                found.append(module)
        return found


def _matching(rule: FreezeConfig, model: nn.Module) -> list[nn.Parameter]:
    """Parameters whose name is the rule's or goes on with a dot; tied ones by any name."""
    named = dict(model.named_parameters(remove_duplicate=False))
    found = [p for n, p in named.items() if f"{n}.".startswith(f"{rule.parameters}.")]
    if not found:
        raise UsageError(
            f"optim.freeze: no parameter's name begins with {rule.parameters!r} up to a dot; "
            f"{_hint(rule.parameters, named)}"
        )
    if rule.until_step is not None and not any(p.requires_grad for p in found):
        raise UsageError(
            f"optim.freeze: {rule.parameters!r} is to be trained from step {rule.until_step} on, "
            "but it is not trainable at all; set upstream.trainable = true or remove until_step"
        )
    return found


def _hint(wanted: str, names: dict[str, nn.Parameter]) -> str:
    beginnings = {".".join(n.split(".")[:k]) for n in names for k in range(1, n.count(".") + 2)}
    near = difflib.get_close_matches(wanted, sorted(beginnings), n=1)
    top = sorted({name.split(".")[0] for name in names})
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(top)}"


def _require_something_to_train(first_steps: list[float]) -> None:
    first = min(first_steps, default=math.inf)
    if first == math.inf:
        raise UsageError("nothing is ever trained: optim.freeze covers every trainable parameter")
    if first > 0:
        raise UsageError(
            f"nothing is trained before step {first}: optim.freeze covers every trainable "
            "parameter until then; leave one free"
        )
