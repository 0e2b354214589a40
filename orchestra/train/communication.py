"""How long training waits for the exchange of gradients, as DDP itself measured it.

Reads clocks only: no hook, no barrier, so neither arithmetic nor the order of buckets changes.
"""

from __future__ import annotations

from typing import Protocol

from torch import nn
from torch.nn.parallel import DistributedDataParallel

_EVERY = 10
"""Steps from one look at DDP's clocks to the next; a look takes 0.1 ms."""


class Exchange(Protocol):
    """The exchange of gradients over the ranks."""

    def exposed_s(self) -> float:
        """Called once per step: the part of it that backward did not hide."""


class NoExchange:
    """One rank has nobody to wait for."""

    def exposed_s(self) -> float:
        """0."""
        return 0.0


class DdpExchange:
    """One rank's view of DDP's all-reduces.

    Exposed is what lies between the last gradient that this rank computed and the last bucket that
    came back: sending what is left, and waiting for ranks that are not as far. DDP times the step
    that is looked at; the ones up to the next look are taken to be like it.

    Args:
        wrapped: after its warm-up step; before another one is wrapped in its place.
    """

    def __init__(self, wrapped: DistributedDataParallel) -> None:
        self._wrapped = wrapped
        self._steps = 0
        self._last_s = 0.0
        wrapped._set_ddp_runtime_logging_sample_rate(_EVERY)  # type: ignore[no-untyped-call]

    def exposed_s(self) -> float:
        """Called once per step: the part of it that backward did not hide."""
        self._steps += 1
        # DDP puts down a step's times when the next one begins: the second call is the first one
        # that finds times of a step (the first finds the warm-up's).
        if self._steps % _EVERY == 2:
            self._last_s = self._look()
        return self._last_s

    def _look(self) -> float:
        times: dict[str, int] = self._wrapped._get_ddp_logging_data()  # type: ignore[no-untyped-call]
        whole_ns = times.get("backward_comm_time", 0)
        hidden_ns = times.get("backward_compute_comm_overlap_time", 0)
        return max(0, whole_ns - hidden_ns) * 1e-9


def exchange_of(wrapped: nn.Module) -> Exchange:
    """Of the model as training calls it."""
    return DdpExchange(wrapped) if isinstance(wrapped, DistributedDataParallel) else NoExchange()
