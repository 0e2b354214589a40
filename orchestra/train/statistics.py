"""What a run says about its steps: means over a log interval, shares of the time, the time left.

Numbers in, numbers out; only the peak of memory is looked up here. Asks no other rank for anything.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from orchestra.train.step import Taken

_RECENT_STEPS = 200
_RECENT_PAUSES = 5


@dataclass(frozen=True)
class Left:
    """What a run still has to do. None: nobody knows how much, or there is no limit."""

    steps: int | None
    validations: int | None
    saves: int | None
    seconds: float | None = None
    """Of train.max_hours."""


class Recent:
    """Mean duration of the last `count` of a kind of work, in seconds.

    The first one, slowed by what is loaded and compiled in it, counts only while it is alone.
    """

    def __init__(self, count: int) -> None:
        self._durations_s: deque[float] = deque(maxlen=count)
        self._first = True

    def add(self, duration_s: float) -> None:
        """One more."""
        if len(self._durations_s) == 1 and self._first:
            self._durations_s.clear()
            self._first = False
        self._durations_s.append(duration_s)

    @property
    def mean_s(self) -> float | None:
        """None before the first."""
        return sum(self._durations_s) / len(self._durations_s) if self._durations_s else None

    def time_for(self, count: int | None) -> float | None:
        """How long so many take; None if it can't be known yet."""
        if count == 0:
            return 0.0
        mean_s = self.mean_s
        return None if count is None or mean_s is None else count * mean_s


class Meter:
    """Takes in every step, validation and save of an attempt; gives the numbers of a record.

    Args:
        device: where the model is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._window = _Window()
        self._steps = Recent(_RECENT_STEPS)
        self._validations = Recent(_RECENT_PAUSES)
        self._saves = Recent(_RECENT_PAUSES)

    def step(self, taken: Taken, audio_s: float, elapsed_s: float, exchange_s: float) -> None:
        """A step of the run.

        Args:
            audio_s: audio in it, over all ranks.
            elapsed_s: the time that it took.
            exchange_s: of that, the exchange of gradients that backward did not hide.
        """
        self._steps.add(elapsed_s)
        # On a GPU wait_s is the queue of this rank's own work above all; ranks wait for each other
        # in the exchange of gradients, just before.
        agreement_s = taken.wait_s if self._device.type == "cpu" else 0.0
        self._window.add(taken, audio_s, elapsed_s, agreement_s + exchange_s)

    def validation(self, elapsed_s: float) -> None:
        """A validation."""
        self._validations.add(elapsed_s)

    def save(self, elapsed_s: float) -> None:
        """A save; `elapsed_s` is what training waited for it."""
        self._saves.add(elapsed_s)

    def values(self, left: Left) -> dict[str, float]:
        """Numbers of a train record; the next call's are of the steps after this one.

        loss, scalars   per unit of weight, as the gradients are; applied steps only
        grad_norm       mean over the applied steps, before clipping
        lr              of the last step
        audio_s_per_s, steps_per_s
                        of all steps, by the time that they took (not by that of validations)
        data_share      of that time this rank waited for batches
        communication_share
                        of that time this rank waited for other ranks: for their gradients as far
                        as backward did not hide it, and on a CPU for their word on what to do
        memory_bytes    GPU: peak of what was allocated since the last call; CPU: the largest
                        resident set of this process so far
        eta_s           until the end; eta_evaluation_s, eta_checkpoint_s: parts of it

        What is not known (yet) is left out.
        """
        values = self._window.values()
        self._window = _Window()
        return values | {"memory_bytes": peak_memory_bytes(self._device)} | self._time_left(left)

    def _time_left(self, left: Left) -> dict[str, float]:
        steps_s = self._steps.time_for(left.steps)
        if steps_s is None:
            return {} if left.seconds is None else {"eta_s": max(0.0, left.seconds)}
        parts = {
            "eta_evaluation_s": self._validations.time_for(left.validations),
            "eta_checkpoint_s": self._saves.time_for(left.saves),
        }
        known = {name: part_s for name, part_s in parts.items() if part_s is not None}
        total_s = steps_s + sum(known.values())
        if left.seconds is None or total_s <= left.seconds:
            return {"eta_s": total_s, **known}
        cut = max(0.0, left.seconds) / total_s  # the clock ends the run, and its pauses with it
        return {"eta_s": total_s * cut, **{name: part_s * cut for name, part_s in known.items()}}


@dataclass
class _Window:
    """The steps since the last record. Skipped ones count in time, not in loss."""

    steps: int = 0
    applied: int = 0
    weight: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    grad_norms: float = 0.0
    lr: float = math.nan
    audio_s: float = 0.0
    elapsed_s: float = 0.0
    data_s: float = 0.0
    communication_s: float = 0.0

    def add(self, taken: Taken, audio_s: float, elapsed_s: float, communication_s: float) -> None:
        self.steps += 1
        self.lr = taken.lr
        self.audio_s += audio_s
        self.elapsed_s += elapsed_s
        self.data_s += taken.data_s
        self.communication_s += communication_s
        if not taken.applied:
            return
        self.applied += 1
        self.grad_norms += taken.grad_norm
        self.weight += taken.totals.weight
        for name, value in taken.totals.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def values(self) -> dict[str, float]:
        if not self.steps:
            return {}
        elapsed_s = max(self.elapsed_s, 1e-9)
        values = {name: value / self.weight for name, value in self.sums.items()}
        values["lr"] = self.lr
        if self.applied:
            values["grad_norm"] = self.grad_norms / self.applied
        return values | {
            "audio_s_per_s": self.audio_s / elapsed_s,
            "steps_per_s": self.steps / elapsed_s,
            "data_share": min(1.0, self.data_s / elapsed_s),
            "communication_share": min(1.0, self.communication_s / elapsed_s),
        }


def peak_memory_bytes(device: torch.device) -> int:
    """GPU: the most that tensors took since the last call. CPU: the most that was resident ever.

    0 where the system does not tell.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    # getrusage would give the launcher's if that was larger: a child starts from its parent's.
    for line in Path("/proc/self/status").read_bytes().splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
