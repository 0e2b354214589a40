"""wav2vec2-conformer: wav2vec2's feature encoder, and conformer blocks.

What looks at padding, besides the first group norm: the depthwise convolution of each block. Its
batch norm would look at the whole batch in training: its statistics stay as pretrained.
"""

from __future__ import annotations

from torch import nn

from orchestra.upstreams.families.waveform import WaveformUpstream
from orchestra.upstreams.padding import MaskedBatchNorm, zero_before


class ConformerUpstream(WaveformUpstream):
    """One frame per 20 ms."""

    def mend_encoder(self) -> None:
        """See the module."""
        for block in self.model.encoder.layers:
            convolution = block.conv_module
            zero_before(convolution.depthwise_conv, self.frames)
            convolution.batch_norm = MaskedBatchNorm(convolution.batch_norm, self.frames)

    def idle(self) -> list[nn.Module | nn.Parameter]:
        """The positional convolution is there but never run; a norm follows the last block."""
        encoder = self.model.encoder
        return [encoder.pos_conv_embed, *([encoder.layer_norm] if self.is_cut else [])]
