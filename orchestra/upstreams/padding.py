"""Layers of pretrained speech models that look at padding, and their replacements that do not.

transformers' models pass no lengths down to these layers: the group norm behind the first
convolution of base models averages over the padded samples, HuBERT's optional batch norm turns
zeroed padding into something else in front of the positional convolution, and convolutions inside
of encoders meet what earlier layers left behind an utterance's end.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestra.upstreams.base import valid_mask


class Lengths:
    """Valid positions of each row at one point of a model; set before every forward."""

    def __init__(self) -> None:
        self.valid: Tensor | None = None

    def mask(self, size: int) -> Tensor:
        """(batch, 1, size) bool."""
        assert self.valid is not None, "lengths are set before the model is called"
        return valid_mask(self.valid, size).unsqueeze(1)


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm whose statistics see valid positions only.

    Takes over the parameters of `norm`. Computes in float32, as autocast does for the original.
    """

    def __init__(self, norm: nn.GroupNorm, lengths: Lengths) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self.lengths = lengths

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, positions); positions beyond the length become the bias."""
        size = input.shape[-1]
        mask = self.lengths.mask(size).unsqueeze(1)
        # (batch, groups, channels of one, positions)
        values = input.float().reshape(len(input), self.num_groups, -1, size)
        values = values.masked_fill(~mask, 0.0)
        count = mask.sum(-1, keepdim=True) * values.shape[2]
        centred = (values - _sums(values) / count).masked_fill(~mask, 0.0)
        variance = _sums(centred.square()) / count
        normal: Tensor = (centred * (variance + self.eps).rsqrt()).flatten(1, 2)
        return normal * self.weight.unsqueeze(1) + self.bias.unsqueeze(1)


def _sums(values: Tensor) -> Tensor:
    """Over (channels, positions); in float32 the zeros of padding would show in the last bits."""
    return values.sum((2, 3), keepdim=True, dtype=torch.float64).float()


class MaskedBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d that always uses its running statistics and leaves zeros at padding.

    Statistics of a batch would tie an utterance to its neighbours, so they stay as pretrained.
    """

    def __init__(self, norm: nn.BatchNorm1d, lengths: Lengths) -> None:
        super().__init__(norm.num_features, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.lengths = lengths

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, positions)."""
        normalized = F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
        return normalized.masked_fill(~self.lengths.mask(input.shape[-1]), 0.0)


def zero_before(convolution: nn.Conv1d, lengths: Lengths) -> None:
    """Let a convolution see zeros at padding, as it does behind the end of a single utterance."""

    def zeroed(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        (frames,) = inputs
        return frames.masked_fill(~lengths.mask(frames.shape[-1]), 0.0)

    convolution.register_forward_pre_hook(zeroed)


def mask_first_convolution(feature_encoder: nn.Module, lengths: Lengths) -> None:
    """Make its group norm, if it has one, heed `lengths`."""
    first = feature_encoder.get_submodule("conv_layers.0")
    norm = getattr(first, "layer_norm", None)
    if isinstance(norm, nn.GroupNorm):
        first.layer_norm = MaskedGroupNorm(norm, lengths)


def mask_positional_convolution(model: nn.Module, lengths: Lengths) -> None:
    """Make the positional embedding's batch norm, if it has one, heed `lengths`."""
    embedding = model.get_submodule("encoder.pos_conv_embed")
    norm = getattr(embedding, "batch_norm", None)
    if isinstance(norm, nn.BatchNorm1d):
        embedding.batch_norm = MaskedBatchNorm(norm, lengths)
