"""data2vec-audio: as wav2vec2's large models, but for a stack of positional convolutions.

What looks at padding: every positional convolution but the first, because the one before it leaves
something other than zeros there.
"""

from __future__ import annotations

from torch import nn

from orchestra.upstreams.families.waveform import WaveformUpstream
from orchestra.upstreams.padding import zero_before


class Data2VecUpstream(WaveformUpstream):
    """One frame per 20 ms."""

    def mend_encoder(self) -> None:
        """See the module."""
        for layer in self.model.encoder.pos_conv_embed.layers:
            zero_before(layer.conv, self.frames)

    def idle(self) -> list[nn.Module | nn.Parameter]:
        """There is no norm behind the last block."""
        return []
