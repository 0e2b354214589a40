"""wav2vec2, HuBERT, WavLM, UniSpeech and UniSpeech-SAT: convolutions on waveforms, a transformer.

What looks at padding: the normalisation of waveforms, the group norm behind the first convolution
of base models, and HuBERT's optional batch norm in front of the positional convolution. An
attention mask is always passed, whatever the model's preprocessor says.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from orchestra.upstreams.base import valid_mask
from orchestra.upstreams.families.base import HIDDEN_STATES, PretrainedUpstream
from orchestra.upstreams.padding import (
    Lengths,
    mask_first_convolution,
    mask_positional_convolution,
)

_NORMALIZE_EPS = 1e-7  # transformers' Wav2Vec2FeatureExtractor


class WaveformUpstream(PretrainedUpstream):
    """One frame per 20 ms in all published models."""

    feature_encoder: ClassVar[str] = "feature_extractor"
    """Where the model has its convolutions on waveforms."""

    def mend(self) -> None:
        """See the module."""
        self.after_first_convolution = Lengths()
        self.frames = Lengths()
        encoder = self.model.get_submodule(self.feature_encoder)
        mask_first_convolution(encoder, self.after_first_convolution)
        self.mend_encoder()

    def mend_encoder(self) -> None:
        """What follows the feature encoder."""
        mask_positional_convolution(self.model, self.frames)

    def idle(self) -> list[nn.Module | nn.Parameter]:
        """Large models have a norm behind the last block; UniSpeech-SAT its mask in any case."""
        mask = getattr(self.model, "masked_spec_embed", None)
        behind = self.is_cut and self.model.config.do_stable_layer_norm
        return [
            *([] if mask is None else [mask]),
            *([self.model.encoder.layer_norm] if behind else []),
        ]

    def run(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `PretrainedUpstream.run`."""
        frame_lengths = self.set_lengths(lengths)
        output = self.model(
            self.prepared(wavs, lengths, valid),
            attention_mask=valid.long(),
            output_hidden_states=self.key == HIDDEN_STATES,
        )
        return self.outputs(output), frame_lengths

    def prepared(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        """Waveforms as the model was trained on them."""
        return normalize(wavs, valid, lengths) if self.pretrained.normalize else wavs

    def set_lengths(self, lengths: Tensor) -> Tensor:
        """Tell the mended parts; (batch,) frames of the feature encoder."""
        config = self.model.config
        first = (lengths - config.conv_kernel[0]) // config.conv_stride[0] + 1
        self.after_first_convolution.valid = first
        frame_lengths = self.feature_lengths(lengths).long()
        self.frames.valid = frame_lengths
        return frame_lengths

    def feature_lengths(self, lengths: Tensor) -> Tensor:
        """(batch,) frames of the feature encoder."""
        frames: Tensor = self.model._get_feat_extract_output_lengths(lengths)
        return frames


def normalize(wavs: Tensor, valid: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over each row's valid samples; zero at padding, as before."""
    count = lengths.unsqueeze(1)
    mean = wavs.sum(1, keepdim=True) / count
    centred = (wavs - mean).masked_fill(~valid, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * (variance + _NORMALIZE_EPS).rsqrt()


def zero_padding(frames: Tensor, lengths: Tensor) -> Tensor:
    """(batch, frames, dim) with zeros behind each row's length."""
    return frames.masked_fill(~valid_mask(lengths, frames.shape[1]).unsqueeze(2), 0.0)
