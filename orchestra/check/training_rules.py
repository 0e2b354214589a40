"""Rules on training: a run that is interrupted ends as one that is not."""

from __future__ import annotations

import torch
from torch import Tensor

from orchestra.check.mistakes import Violation
from orchestra.check.subject import Built, Subject
from orchestra.train.optim import build_optimizer, load_optimizer, optimizer_tensors
from orchestra.train.seeds import reseed_step
from orchestra.train.warmup import warm_up

_STEPS = 4
_SAVED_AT = 2
_MICRO_BATCHES = 2


def resume_is_exact(subject: Subject) -> str:
    """Saved and gone on with in another process: the same weights, bit for bit."""
    straight = Training(subject)
    straight.take(range(_STEPS))
    interrupted = Training(subject)
    interrupted.take(range(_SAVED_AT))
    resumed = Training(subject)
    resumed.load(*interrupted.saved())
    resumed.take(range(_SAVED_AT, _STEPS))
    weights, _ = straight.saved()
    others, _ = resumed.saved()
    differing = [name for name, tensor in weights.items() if not torch.equal(tensor, others[name])]
    if differing:
        raise Violation(
            f"after a resume in step {_SAVED_AT} of {_STEPS}, {len(differing)} of {len(weights)} "
            f"tensors differ ({', '.join(differing[:3])}): what changes while training must be a "
            "parameter or a buffer of the head, or follow from the seeds"
        )
    return f"{len(weights)} tensors are equal after {_STEPS} steps"


class Training:
    """Some steps of the run's optimizer, as a rank takes them."""

    def __init__(self, subject: Subject) -> None:
        self._config = subject.config
        self._built: Built = subject.build()
        for name, value in self._built.model.state_dict().items():
            if not isinstance(value, Tensor):
                raise Violation(
                    f"{name} of the head is of type {type(value).__name__}: a checkpoint holds "
                    "tensors alone; make it a buffer"
                )
        half = (len(subject.few) + 1) // _MICRO_BATCHES
        parts = (subject.few[:half], subject.few[half:])
        self._batches = [subject.batch(part, self._built.task) for part in parts if part]
        self._optimizer = build_optimizer(self._config, self._built.model)
        # Every attempt begins with a pass that is thrown away.
        warm_up(self._config, self._built.model, self._built.model, self._batches[:1])

    def take(self, steps: range) -> None:
        """So many optimizer steps."""
        for step in steps:
            weight = 0.0
            for number, batch in enumerate(self._batches):
                reseed_step(self._config.seed, step, number, 0)
                terms = self._built.model(batch)
                terms.sum.backward()
                weight += float(terms.weight)
            for parameter in self._built.model.parameters():
                if parameter.grad is not None:
                    parameter.grad /= weight
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a checkpoint has of model and optimizer."""
        model = self._built.model
        tensors = (model.saved_state(), optimizer_tensors(self._optimizer, model))
        weights, state = ({k: v.detach().clone() for k, v in each.items()} for each in tensors)
        return weights, state

    def load(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Put back what `saved` gave."""
        self._built.model.load_saved_state(weights)
        load_optimizer(self._optimizer, self._built.model, state)
