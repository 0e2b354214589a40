"""One optimizer step: micro-batches, the exact gradient of the global batch, one agreed decision.

The gradient is that of (sum of all losses) / (sum of all weights), over all ranks and
micro-batches: uneven batches are exact.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from orchestra.config.schema import RunConfig
from orchestra.tasks import Batch, LossTerms
from orchestra.train.distributed import Ranks
from orchestra.train.model import SpeechModel
from orchestra.train.optim import set_learning_rates, trainable
from orchestra.train.precision import autocast
from orchestra.train.schedules import factor
from orchestra.train.seeds import reseed
from orchestra.wire.heartbeat import Phase

_FIXED = 4  # weight, loss, stop, non-finite


@dataclass(frozen=True)
class Totals:
    """What all ranks agreed on in a step: sums over the global batch."""

    weight: float
    sums: dict[str, float]
    """Loss and scalars, not divided by `weight`."""
    stop: bool
    finite: bool


@dataclass(frozen=True)
class Taken:
    """A step that was taken, or skipped by all ranks because something was not finite."""

    totals: Totals
    applied: bool
    grad_norm: float
    lr: float


def wrap(model: SpeechModel, ranks: Ranks) -> nn.Module:
    """The model as it is called in training."""
    if ranks.world_size == 1:
        return model
    with warnings.catch_warnings():
        # torch 2.13 wants another name for it, which 2.10 does not know.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


class Stepper:
    """Takes optimizer steps with one model and optimizer.

    Args:
        scalars: names of the task's scalars, the same in every rank and batch.
        beat: told the phase that begins.
    """

    def __init__(
        self,
        config: RunConfig,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        ranks: Ranks,
        scalars: Sequence[str],
        beat: Callable[[Phase], None],
    ) -> None:
        self._config = config
        self._wrapped = wrapped
        self._optimizer = optimizer
        self._ranks = ranks
        self._scalars = tuple(scalars)
        self._parameters = trainable(wrapped)
        self._beat = beat

    def take(
        self, number: int, numbers: Sequence[int], batches: Iterator[Batch], *, stop: bool
    ) -> Taken:
        """Step `number` (the first is 0).

        Args:
            numbers: this rank's micro-batches by their number in the step; at least one.
            batches: yields those micro-batches, on the device.
            stop: whether this rank wants the run to end after this step.
        """
        config = self._config
        lr = set_learning_rates(
            self._optimizer, factor(config.schedule, number, config.train.max_steps)
        )
        totals = self._agree(self._accumulate(number, numbers, batches, stop))
        self._beat(Phase.OPTIMIZER)
        grad_norm = self._scale_gradients(totals) if totals.finite else math.nan
        applied = math.isfinite(grad_norm)
        if applied:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return Taken(totals, applied, grad_norm, lr)

    def _accumulate(
        self, number: int, numbers: Sequence[int], batches: Iterator[Batch], stop: bool
    ) -> Tensor:
        """Backward of every micro-batch of this rank; ranks' gradients meet in the last one."""
        vector = torch.zeros(
            _FIXED + len(self._scalars), dtype=torch.float64, device=self._ranks.device
        )
        vector[2] = float(stop)
        for micro in numbers:
            self._beat(Phase.DATA)
            batch = next(batches)
            with self._alone() if micro != numbers[-1] else nullcontext():
                self._beat(Phase.FORWARD)
                reseed(self._config.seed, "step", number, micro)
                with autocast(self._config.train, self._ranks.device):
                    terms: LossTerms = self._wrapped(batch)
                self._beat(Phase.BACKWARD)
                terms.sum.backward()  # type: ignore[no-untyped-call]
            vector += self._vector(terms)
        return vector

    def _vector(self, terms: LossTerms) -> Tensor:
        loss = terms.sum.detach().double()
        scalars = [terms.scalars[name].detach().to(loss) for name in self._scalars]
        none = torch.zeros_like(loss)
        weight = terms.weight.detach().to(loss)  # a task may count on the CPU
        return torch.stack([weight, loss, none, (~loss.isfinite()).double(), *scalars])

    def _agree(self, vector: Tensor) -> Totals:
        weight, loss, stop, non_finite, *scalars = self._ranks.sum(vector).tolist()
        return Totals(
            weight=weight,
            sums={"loss": loss, **dict(zip(self._scalars, scalars, strict=True))},
            stop=stop > 0,
            finite=non_finite == 0 and weight > 0,
        )

    def _scale_gradients(self, totals: Totals) -> float:
        """Divide by the global weight, then clip; returns the norm before clipping."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        # DDP has averaged over ranks; what is wanted is their sum.
        torch._foreach_mul_(gradients, self._ranks.world_size / totals.weight)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._config.optim.clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(
                self._parameters, self._config.optim.clip_norm, norm
            )
        return float(norm)

    def _alone(self) -> AbstractContextManager[Any]:
        """Accumulate in this rank only."""
        if isinstance(self._wrapped, DistributedDataParallel):
            return self._wrapped.no_sync()
        return nullcontext()
