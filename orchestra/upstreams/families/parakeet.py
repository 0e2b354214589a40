"""Parakeet's encoder (Fast Conformer): log mel frames, subsampled; conformer blocks.

Its convolutions and its attention heed the mask that is always passed. The batch norm of each block
would look at the whole batch in training: its statistics stay as pretrained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from orchestra.upstreams.base import valid_mask
from orchestra.upstreams.families.base import HIDDEN_STATES, PretrainedUpstream
from orchestra.upstreams.framing import SHIFT, WINDOW
from orchestra.upstreams.padding import Lengths, MaskedBatchNorm
from orchestra.upstreams.spectrum import PREEMPHASIS, hann_window, mel_filters, power

# transformers' ParakeetFeatureExtractor
_FFT = 512
_LOG_FLOOR = 2.0**-24
_NORMALIZE_EPS = 1e-5


class ParakeetUpstream(PretrainedUpstream):
    """One frame per 80 ms in published models."""

    blocks = "layers"
    window: Tensor
    mel: Tensor

    def mend(self) -> None:
        """Filters, and see the module."""
        self.register_buffer("window", hann_window(), persistent=False)
        mel = mel_filters(self.model.config.num_mel_bins, _FFT, 0.0, "slaney")
        self.register_buffer("mel", mel, persistent=False)
        self.frames = Lengths()
        for block in self.model.layers:
            block.conv.norm = MaskedBatchNorm(block.conv.norm, self.frames)

    def run(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `PretrainedUpstream.run`."""
        mel_lengths = lengths // SHIFT
        features = self._log_mel(wavs, valid, mel_lengths)
        frame_lengths: Tensor = self.model._get_subsampling_output_length(mel_lengths).long()
        self.frames.valid = frame_lengths
        output = self.model(
            features,
            attention_mask=valid_mask(mel_lengths, features.shape[1]).long(),
            output_hidden_states=self.key == HIDDEN_STATES,
        )
        return self.outputs(output), frame_lengths

    @torch.no_grad()
    def _log_mel(self, wavs: Tensor, valid: Tensor, mel_lengths: Tensor) -> Tensor:
        """(batch, frames, mels), each of zero mean and unit variance; zero at padding."""
        with torch.autocast(wavs.device.type, enabled=False):
            wavs = wavs.float()
            emphasised = torch.cat([wavs[:, :1], wavs[:, 1:] - PREEMPHASIS * wavs[:, :-1]], 1)
            # Windows are centred on their samples; behind an utterance's ends are zeros.
            samples = F.pad(emphasised.masked_fill(~valid, 0.0), (WINDOW // 2, WINDOW // 2))
            frames = samples.unfold(1, WINDOW, SHIFT)[:, : int(mel_lengths.max())]
            # float64, because a product's last bits depend on the batch it is computed in.
            energies = power(frames * self.window, _FFT).double() @ self.mel.double()
            return _normalized((energies + _LOG_FLOOR).log_(), mel_lengths).float()


def _normalized(frames: Tensor, lengths: Tensor) -> Tensor:
    padding = ~valid_mask(lengths, frames.shape[1]).unsqueeze(2)
    count = lengths.view(-1, 1, 1)
    mean = frames.masked_fill(padding, 0.0).sum(1, keepdim=True) / count
    centred = (frames - mean).masked_fill(padding, 0.0)
    deviation = (centred.square().sum(1, keepdim=True) / (count - 1)).sqrt()
    return centred / (deviation + _NORMALIZE_EPS)
