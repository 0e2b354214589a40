"""Moonshine's encoder: three convolutions on waveforms, a transformer.

What looks at padding: the group norm behind the first convolution, one group over all channels; and
transformers' mask, which counts a frame as valid where its first sample is.
"""

from __future__ import annotations

from torch import Tensor, nn

from orchestra.upstreams.base import valid_mask
from orchestra.upstreams.families.base import HIDDEN_STATES, PretrainedUpstream
from orchestra.upstreams.families.shapes import MOONSHINE
from orchestra.upstreams.padding import Lengths, MaskedGroupNorm


class MoonshineUpstream(PretrainedUpstream):
    """One frame per 24 ms."""

    blocks = "layers"

    def mend(self) -> None:
        """See the module."""
        self.after_first_convolution = Lengths()
        self.model.groupnorm = MaskedGroupNorm(self.model.groupnorm, self.after_first_convolution)
        if self.is_cut:  # transformers gives the last hidden state behind the norm
            self.model.layer_norm = nn.Identity()

    def run(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `PretrainedUpstream.run`."""
        counts = [lengths]
        for kernel, stride in MOONSHINE:
            counts.append((counts[-1] - kernel) // stride + 1)
        self.after_first_convolution.valid = counts[1]
        frame_lengths = counts[-1]
        output = self.model(
            wavs,
            # transformers keeps one sample of it for each frame.
            attention_mask=valid_mask(frame_lengths * self.stride, wavs.shape[1]).long(),
            output_hidden_states=self.key == HIDDEN_STATES,
        )
        return self.outputs(output), frame_lengths
