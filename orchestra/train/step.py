"""One optimizer step: micro-batches, the exact gradient of the global batch, one agreed decision.

The gradient is that of (sum of all losses) / (sum of all weights), over all ranks and
micro-batches: uneven batches are exact. Whether it is applied follows from sums over all ranks
alone, so they never part.
"""

from __future__ import annotations

import math
import time
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
from orchestra.train.memory import enough_memory, training_remedy
from orchestra.train.model import SpeechModel
from orchestra.train.optim import set_learning_rates
from orchestra.train.precision import LOWEST_SCALE, autocast, loss_scaler
from orchestra.train.schedules import factor
from orchestra.train.seeds import reseed_step, with_parts
from orchestra.wire.heartbeat import Phase


@dataclass(frozen=True)
class Totals:
    """What all ranks agreed on in a step: sums over the global batch."""

    weight: float
    sums: dict[str, float]
    """Loss and scalars, not divided by `weight`."""
    stop: bool
    expired: bool
    finite: bool
    """Loss and weight; the gradient is not known yet."""


@dataclass(frozen=True)
class Taken:
    """A step that was taken, or skipped by all ranks because something was not finite."""

    totals: Totals
    applied: bool
    overflow: bool
    """Skipped because the fp16 loss scale was too high; it has been lowered."""
    grad_norm: float
    """Over all parameters, before clipping; not finite where the step was skipped."""
    lr: float
    """optim.lr by the schedule; a group of its own rate has that times the same factor."""
    non_finite: tuple[str, ...]
    """What this rank found where a step was skipped but for an overflow: "loss", "weight",
    "gradient of head.x". Other ranks may have caused it."""
    data_s: float
    """Waiting for batches."""
    wait_s: float
    """In the agreement: waiting for the last rank, on a GPU for its own queue too."""


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
        wrapped: what `wrap` gave; set `model` to another one after a change of what is trained.
        scalars: names of the task's scalars, the same in every rank and batch.
        beat: told the phase that begins, and what it promises.
        note: told the ids of the utterances at work.
        total_steps: for the schedule; None where the run ends by the clock.
    """

    def __init__(
        self,
        config: RunConfig,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        ranks: Ranks,
        scalars: Sequence[str],
        beat: Callable[[Phase, float], None],
        note: Callable[[Sequence[str]], None],
        total_steps: int | None,
    ) -> None:
        self._config = config
        self._optimizer = optimizer
        self._ranks = ranks
        self._scalars = tuple(scalars)
        self._beat = beat
        self._note = note
        self._remedy = training_remedy(config)
        self._total_steps = total_steps
        self._scaler = loss_scaler(config.train, ranks.device)
        self.model = wrapped
        self.promise_s = 0.0
        """Within which a pass ends; 0: nothing is known."""
        self.consumed: list[tuple[int, Batch]] = []
        """(number, micro-batch or part of one) of the step being taken or, between steps, of the
        last one."""
        self._losses: list[Tensor] = []

    @property
    def model(self) -> nn.Module:
        """What is called in training."""
        return self._wrapped

    @model.setter
    def model(self, wrapped: nn.Module) -> None:
        self._wrapped = wrapped
        bare = wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped
        self._parameters = {n: p for n, p in bare.named_parameters() if p.requires_grad}

    def take(
        self,
        number: int,
        numbers: Sequence[int],
        batches: Iterator[Batch],
        *,
        stop: bool,
        expired: bool,
    ) -> Taken:
        """Step `number` (the first is 0).

        Args:
            numbers: this rank's micro-batches by their number in the step; at least one. One
                that is cut stands once for each part.
            batches: yields those micro-batches, or their parts, on the device.
            stop, expired: whether this rank wants the run to end after this step, and whether
                its time is over; all ranks learn whether any does.
        """
        lr_factor = factor(self._config.schedule, number, self._total_steps)
        set_learning_rates(self._optimizer, lr_factor)
        word, data_s = self._accumulate(number, numbers, batches, [stop, expired])
        started = time.monotonic()
        totals = self._totals(word())
        wait_s = time.monotonic() - started
        self._beat(Phase.OPTIMIZER, self.promise_s)
        grad_norm = self._finish_gradients(totals) if totals.finite else math.nan
        applied = math.isfinite(grad_norm)
        if applied:
            self._optimizer.step()
        overflow = totals.finite and self._adapt_loss_scale(applied)
        non_finite = () if applied or overflow else self._non_finite(totals)
        self._optimizer.zero_grad(set_to_none=True)
        lr = self._config.optim.lr * lr_factor
        return Taken(totals, applied, overflow, grad_norm, lr, non_finite, data_s, wait_s)

    def scaler_state(self) -> dict[str, float | int]:
        """The fp16 loss scale, for the checkpoint; empty in other precisions."""
        return self._scaler.state_dict()

    def load_scaler_state(self, state: dict[str, float | int]) -> None:
        """Restore what `scaler_state` gave; of a checkpoint in another precision, nothing."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)

    def _accumulate(
        self, number: int, numbers: Sequence[int], batches: Iterator[Batch], wishes: list[bool]
    ) -> tuple[Callable[[], Tensor], float]:
        """Backward of every micro-batch of this rank; ranks' gradients meet in the last one.

        What is to be agreed on is known before that backward pass, which hides its exchange.

        Returns:
            What waits for the agreed vector, and the seconds waited for batches.
        """
        sums = torch.zeros(2 + len(self._scalars), dtype=torch.float64, device=self._ranks.device)
        self.consumed, self._losses, data_s = [], [], 0.0
        agreement: Callable[[], Tensor] | None = None
        pieces = list(with_parts(numbers))
        for piece in pieces:
            self._beat(Phase.DATA, 0.0)
            started = time.monotonic()
            batch = next(batches)
            data_s += time.monotonic() - started
            self._note(batch.ids)
            self.consumed.append((piece[0], batch))
            last = piece == pieces[-1]
            alone = nullcontext() if last else self._alone()
            with enough_memory("a training step", batch, self._remedy), alone:
                terms = self._forward(number, *piece, batch)
                sums += self._sums(terms)
                if last:
                    flags = torch.tensor(wishes, dtype=sums.dtype, device=sums.device)
                    agreement = self._ranks.begin_sum(torch.cat([flags, sums]))
                self._beat(Phase.BACKWARD, self.promise_s)
                self._scaler.scale(terms.sum).backward()  # type: ignore[no-untyped-call]
            self._losses.append(terms.sum.detach())
        assert agreement is not None, "each rank has a micro-batch"
        return agreement, data_s

    def _forward(self, number: int, micro: int, part: int, batch: Batch) -> LossTerms:
        self._beat(Phase.FORWARD, self.promise_s)
        reseed_step(self._config.seed, number, micro, part)
        with autocast(self._config.train, self._ranks.device):
            terms: LossTerms = self._wrapped(batch)
        return terms

    def _sums(self, terms: LossTerms) -> Tensor:
        """Weight, loss, scalars; a task may compute some of them on the CPU."""
        parts = [terms.weight, terms.sum, *(terms.scalars[name] for name in self._scalars)]
        device = self._ranks.device
        return torch.stack([part.detach().to(device, torch.float64) for part in parts])

    def _totals(self, agreed: Tensor) -> Totals:
        """A loss that is not finite in one rank makes the sum so in all of them."""
        stop, expired, weight, loss, *scalars = agreed.tolist()
        return Totals(
            weight=weight,
            sums={"loss": loss, **dict(zip(self._scalars, scalars, strict=True))},
            stop=stop > 0,
            expired=expired > 0,
            finite=math.isfinite(loss) and 0 < weight < math.inf,
        )

    def _finish_gradients(self, totals: Totals) -> float:
        """Divide by loss scale and global weight, then clip; returns the norm before clipping."""
        self._scaler.unscale_(self._optimizer)
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        # DDP has averaged over ranks; what is wanted is their sum.
        torch._foreach_mul_(gradients, self._ranks.world_size / totals.weight)
        norm = torch.nn.utils.get_total_norm(gradients)
        grad_norm, clip_norm = float(norm), self._config.optim.clip_norm
        if clip_norm > 0 and math.isfinite(grad_norm):
            torch.nn.utils.clip_grads_with_norm_(self._parameters.values(), clip_norm, norm)
        return grad_norm

    def _adapt_loss_scale(self, applied: bool) -> bool:
        """Raise or lower the fp16 loss scale after a step; whether it had been too high.

        A gradient that is not finite at the lowest scale either is the model's own fault.
        """
        if not self._scaler.is_enabled():
            return False
        if applied:
            self._scaler.update()
            return False
        before = self._scaler.get_scale()
        self._scaler.update()
        if self._scaler.get_scale() < LOWEST_SCALE:
            self._scaler.update(LOWEST_SCALE)
        return self._scaler.get_scale() < before

    def _non_finite(self, totals: Totals) -> tuple[str, ...]:
        names = [] if all(bool(loss.isfinite()) for loss in self._losses) else ["loss"]
        if not 0 < totals.weight < math.inf:
            names.append("weight")
        for name, parameter in self._parameters.items():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                names.append(f"gradient of {name}")
        return tuple(names)

    def _alone(self) -> AbstractContextManager[Any]:
        """Accumulate in this rank only."""
        if isinstance(self._wrapped, DistributedDataParallel):
            return self._wrapped.no_sync()
        return nullcontext()
