"""AST: a vision transformer on patches of log mel frames; one frame per column of patches.

The model knows inputs of one size alone (10.24 s of AudioSet): a shorter utterance is padded to it
by the model's own rule, with zeros in the place of log mel frames, which it sees. So features don't
depend on the batch. A longer one is cut into windows of that size; they begin so that columns of
patches follow each other in even steps.

A hidden state's frame is the mean over the patches of one column (all frequencies); the tokens for
classes are left out. Columns that only see padding are none of the utterance's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestra.upstreams.families.base import HIDDEN_STATES, PretrainedUpstream
from orchestra.upstreams.families.waveform import zero_padding
from orchestra.upstreams.families.windows import cut_windows
from orchestra.upstreams.framing import SHIFT, WINDOW
from orchestra.upstreams.spectral import KALDI_LOW_HZ, kaldi_log_mel
from orchestra.upstreams.spectrum import (
    KALDI_FFT,
    hann_window,
    kaldi_frames,
    mel_filters,
)

_TOKENS = 2  # for classes, in front of the patches
_AUDIOSET_MEAN, _AUDIOSET_STD = -4.2677393, 4.5689974  # transformers' ASTFeatureExtractor


class SpectrogramTransformerUpstream(PretrainedUpstream):
    """One frame per 100 ms in published models."""

    blocks = "layers"
    window: Tensor
    mel: Tensor

    def mend(self) -> None:
        """Nothing but filters."""
        self.register_buffer("window", hann_window(), persistent=False)
        mel = mel_filters(self.model.config.num_mel_bins, KALDI_FFT, KALDI_LOW_HZ, "kaldi")
        self.register_buffer("mel", mel, persistent=False)
        preprocessor = self.pretrained.preprocessor or {}
        self.normalized = preprocessor.get("do_normalize", True)
        self.mean = preprocessor.get("mean", _AUDIOSET_MEAN)
        self.std = preprocessor.get("std", _AUDIOSET_STD)

    def idle(self) -> list[nn.Module | nn.Parameter]:
        """A norm follows the last block."""
        return [self.model.layernorm] if self.is_cut else []

    def run(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `PretrainedUpstream.run`."""
        config = self.model.config
        bands, columns = self.model.embeddings.get_shape(config)
        size = (config.max_length - 1) * SHIFT + WINDOW
        windows = cut_windows(wavs, lengths, size, columns * self.stride, self.min_samples)
        mel_lengths = kaldi_frames(windows.lengths)
        frame_lengths = (mel_lengths - config.patch_size) // config.time_stride + 1
        output = self.model(
            self._log_mel(windows.wavs, mel_lengths),
            output_hidden_states=self.key == HIDDEN_STATES,
        )
        layers = [
            state[:, _TOKENS:].reshape(len(state), bands, columns, -1).mean(1)
            for state in self.outputs(output)
        ]
        return windows.join(layers, frame_lengths)

    @torch.no_grad()
    def _log_mel(self, wavs: Tensor, mel_lengths: Tensor) -> Tensor:
        """(batch, max_length, mels)."""
        with torch.autocast(wavs.device.type, enabled=False):
            frames = zero_padding(
                kaldi_log_mel(wavs.float(), self.window, self.mel), mel_lengths
            ).float()
        missing = self.model.config.max_length - frames.shape[1]
        frames = torch.nn.functional.pad(frames, (0, 0, 0, missing))
        return (frames - self.mean) / (2 * self.std) if self.normalized else frames
