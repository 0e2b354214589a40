"""An exponential moving average of the weights, for evaluation and export.

After each applied step a <- d a + (1 - d) w, in float32 as the weights themselves, starting at the
weights that are there when it is made: it looks back about 1 / (1 - d) steps. Polyak and Juditsky
1992, "Acceleration of Stochastic Approximation by Averaging". Buffers (BatchNorm's statistics)
are not averaged: an evaluation uses the model's own.

Never changes what training sees: outside of `applied` the model holds its own weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from orchestra.config.schema import OptimConfig
from orchestra.wire.errors import UsageError


class Average:
    """Of all parameters that are ever trained: make it before `Freezing.apply`.

    All ranks compute the same one from the same weights.
    """

    def __init__(self, decay: float, model: nn.Module) -> None:
        self._weight = 1.0 - decay
        trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        self._names = list(trained)
        self._weights = list(trained.values())  # share memory with the parameters
        self._averages = [weights.clone() for weights in self._weights]

    def update(self) -> None:
        """Call after each applied step."""
        torch._foreach_lerp_(self._averages, self._weights, self._weight)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name, not copied."""
        return dict(zip(self._names, self._averages, strict=True))

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` gave, bit for bit.

        Raises:
            UsageError: an average is missing, unknown or of another shape; all are named.
        """
        own = self.tensors()
        wrong = own.keys() ^ tensors.keys()
        wrong |= {n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape}
        if wrong:
            raise UsageError(
                f"the checkpoint's averaged weights are not those of this model: "
                f"{', '.join(sorted(wrong))}; resume with the optim.ema_decay and optim.freeze "
                "it was made with"
            )
        for name, average in own.items():
            average.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model holds the averages; then its own weights again, bit for bit."""
        own = [weights.clone() for weights in self._weights]
        torch._foreach_copy_(self._weights, self._averages)
        try:
            yield
        finally:
            torch._foreach_copy_(self._weights, own)


class NoAverage:
    """Where none is kept: the model is evaluated as it is."""

    def update(self) -> None:
        """Nothing to do."""

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Accept that there are none.

        Raises:
            UsageError: there are some.
        """
        if tensors:
            raise UsageError(
                "the checkpoint holds averaged weights, but the config has no optim.ema_decay: "
                "resume with the one it was made with"
            )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model as it is."""
        yield


def build_average(config: OptimConfig, model: nn.Module) -> Average | NoAverage:
    """As configured; call it when the model holds the weights that training starts from."""
    return NoAverage() if config.ema_decay is None else Average(config.ema_decay, model)
