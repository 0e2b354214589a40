"""SpeechT5's speech encoder: wav2vec2's feature encoder, and blocks with relative positions.

What looks at padding, besides the first group norm: the positional convolution, in front of which
transformers leaves something other than zeros.
"""

from __future__ import annotations

from torch import Tensor, nn

from orchestra.upstreams.families.waveform import WaveformUpstream
from orchestra.upstreams.padding import zero_before


class SpeechT5Upstream(WaveformUpstream):
    """One frame per 20 ms."""

    blocks = "wrapped_encoder.layers"
    feature_encoder = "prenet.feature_encoder"

    def mend_encoder(self) -> None:
        """See the module."""
        zero_before(self.model.prenet.pos_conv_embed.conv, self.frames)

    def idle(self) -> list[nn.Module | nn.Parameter]:
        """There is no norm behind the last block."""
        return []

    def feature_lengths(self, lengths: Tensor) -> Tensor:
        """See `WaveformUpstream.feature_lengths`."""
        frames: Tensor = self.model.prenet._get_feat_extract_output_lengths(lengths)
        return frames
