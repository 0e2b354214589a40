"""wav2vec2-bert: conformer blocks on pairs of Kaldi's log mel frames, normalised per utterance.

Its causal convolutions and its attention heed the mask that is always passed, so only the features
are made here. An odd last log mel frame counts in the normalisation and is then dropped, as by
transformers' mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orchestra.upstreams.base import valid_mask
from orchestra.upstreams.families.base import HIDDEN_STATES, PretrainedUpstream
from orchestra.upstreams.spectral import KALDI_LOW_HZ, PCM_SCALE, kaldi_log_mel
from orchestra.upstreams.spectrum import KALDI_FFT, kaldi_frames, mel_filters, povey_window

_NORMALIZE_EPS = 1e-7  # transformers' SeamlessM4TFeatureExtractor


class Wav2Vec2BertUpstream(PretrainedUpstream):
    """One frame per 20 ms."""

    window: Tensor
    mel: Tensor

    def mend(self) -> None:
        """Nothing but filters."""
        mels = self.model.config.feature_projection_input_dim // 2
        self.register_buffer("window", PCM_SCALE * povey_window(), persistent=False)
        mel = mel_filters(mels, KALDI_FFT, KALDI_LOW_HZ, "kaldi")
        self.register_buffer("mel", mel, persistent=False)

    def run(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `PretrainedUpstream.run`."""
        frame_lengths = kaldi_frames(lengths) // 2
        features = self._pairs(wavs, lengths)
        output = self.model(
            features,
            attention_mask=valid_mask(frame_lengths, features.shape[1]).long(),
            output_hidden_states=self.key == HIDDEN_STATES,
        )
        return self.outputs(output), frame_lengths

    @torch.no_grad()
    def _pairs(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames / 2, 2 * mels), zero at padding."""
        with torch.autocast(wavs.device.type, enabled=False):
            frames = kaldi_log_mel(wavs.float(), self.window, self.mel)
            count = kaldi_frames(lengths).view(-1, 1, 1)
            valid = valid_mask(count.flatten(), frames.shape[1]).unsqueeze(2)
            centred = frames - frames.masked_fill(~valid, 0.0).sum(1, keepdim=True) / count
            centred = centred.masked_fill(~valid, 0.0)
            variance = centred.square().sum(1, keepdim=True) / (count - 1)
            normal = (centred * (variance + _NORMALIZE_EPS).rsqrt()).float()
        pairs = normal.shape[1] // 2
        return normal[:, : 2 * pairs].reshape(len(wavs), pairs, -1)
