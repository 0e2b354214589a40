"""From an upstream's layers to the one feature sequence a head sees.

The learnt sum weighs all layers by the softmax of weights that start at zero (SUPERB's protocol).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestra.config.schema import LayeredConfig, UpstreamConfig
from orchestra.upstreams.base import Features, Upstream, valid_mask
from orchestra.wire.errors import UsageError


class Featurizer(nn.Module):
    """One layer, or the learnt sum of all, of one of the upstream's outputs.

    Has a parameter, `weights` (layers,), only if there is something to sum.

    Args:
        stored: numbers of the layers that it is given alone, instead of all (cache.layers).

    Raises:
        UsageError: the upstream has no such output or layer, or its layers can't be summed.
    """

    def __init__(
        self, config: UpstreamConfig, upstream: Upstream, stored: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        chosen = config if isinstance(config, LayeredConfig) else None
        self.key = chosen.key if chosen else "hidden_states"
        self.normalize = chosen.normalize if chosen else False
        dims = upstream.layer_dims(self.key)
        wanted = chosen.layers if chosen else None
        if stored is not None:
            dims, wanted = [dims[number] for number in stored], None
        self.layer = choose_layer(wanted, dims, self.key)
        self.weights: nn.Parameter | None = None
        if self.layer is None:
            if len(set(dims)) > 1:
                raise UsageError(
                    f"the layers of {self.key!r} have different dimensions {dims} and can't be "
                    "summed; choose one with upstream.layers"
                )
            self.weights = nn.Parameter(torch.zeros(len(dims)))
        self.dim = dims[self.layer or 0]

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """(batch, frames, dim), zero at padded frames, and (batch,) valid frames."""
        layers = features.layers[self.key]
        if self.layer is not None:
            mixed = self._normalized(layers[self.layer])
        else:
            mixed = self._weighted_sum(layers)
        valid = valid_mask(features.lengths, mixed.shape[1])
        return mixed.masked_fill(~valid.unsqueeze(2), 0.0), features.lengths

    def _weighted_sum(self, layers: list[Tensor]) -> Tensor:
        assert self.weights is not None
        shares = self.weights.softmax(0)
        # One layer after the other: a stacked copy of all would double the memory.
        mixed = self._normalized(layers[0]) * shares[0]
        for layer, share in zip(layers[1:], shares[1:], strict=True):
            mixed = torch.addcmul(mixed, self._normalized(layer), share)
        return mixed

    def _normalized(self, layer: Tensor) -> Tensor:
        layer = layer.float()  # stored features have half the width
        return F.layer_norm(layer, layer.shape[-1:]) if self.normalize else layer


def choose_layer(wanted: int | None, dims: list[int], key: str) -> int | None:
    """The index of the one layer to use, or None for the sum of all."""
    count = len(dims)
    if wanted is None:
        return 0 if count == 1 else None
    if not -count <= wanted < count:
        raise UsageError(
            f"upstream.layers = {wanted}: {key!r} has {count} layers, "
            f"so it must lie between {-count} and {count - 1}"
        )
    return wanted % count
