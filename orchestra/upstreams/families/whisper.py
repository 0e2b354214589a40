"""Whisper's encoder: log mel of a centred STFT, two convolutions, a transformer.

The model was trained on 30 s, padded with silence that it could see. Here an utterance is seen
alone: positions end where it ends, and nothing behind it is attended to. That costs what its length
costs, makes features independent of padding, and at 30 s equals transformers' own. Longer
utterances are cut into windows of 30 s, each seen alone. (The original, silence included, is the
same as padding the recordings.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from orchestra.upstreams.base import valid_mask
from orchestra.upstreams.families.base import LAST_HIDDEN_STATE, PretrainedUpstream
from orchestra.upstreams.families.waveform import zero_padding
from orchestra.upstreams.families.windows import cut_windows
from orchestra.upstreams.framing import SHIFT, WINDOW
from orchestra.upstreams.spectrum import centred_power, hann_window, mel_filters

_POWER_FLOOR = 1e-10
_DECADES = 8.0  # what is fainter than the utterance's peak by more is raised to that


class WhisperUpstream(PretrainedUpstream):
    """One frame per 20 ms."""

    blocks = "layers"
    window: Tensor
    mel: Tensor

    def mend(self) -> None:
        """Nothing but filters: the encoder's steps are taken here, with its own modules."""
        self.register_buffer("window", hann_window(periodic=True), persistent=False)
        mel = mel_filters(self.model.config.num_mel_bins, WINDOW, 0.0, "slaney")
        self.register_buffer("mel", mel, persistent=False)

    def idle(self) -> list[nn.Module | nn.Parameter]:
        """Positions are sinusoids, not trained by Whisper either; a norm follows the last block."""
        model = self.model
        return [model.embed_positions, *([model.layer_norm] if self.is_cut else [])]

    def run(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `PretrainedUpstream.run`."""
        size = self.model.config.max_source_positions * self.stride
        windows = cut_windows(wavs, lengths, size, size, self.min_samples)
        mel_lengths = windows.lengths // SHIFT
        frame_lengths = (mel_lengths - 1) // 2 + 1
        mel = self._log_mel(windows.wavs, windows.lengths, mel_lengths)
        frames = self._convolved(mel, mel_lengths)
        return windows.join(self._transformed(frames, frame_lengths), frame_lengths)

    @torch.no_grad()
    def _log_mel(self, wavs: Tensor, lengths: Tensor, mel_lengths: Tensor) -> Tensor:
        """(batch, frames, mels) as transformers' WhisperFeatureExtractor makes of an utterance."""
        with torch.autocast(wavs.device.type, enabled=False):
            power = centred_power(wavs.float(), lengths, self.window)[:, : int(mel_lengths.max())]
            # float64, because a product's last bits depend on the batch it is computed in.
            log = (power.double() @ self.mel.double()).clamp_(min=_POWER_FLOOR).log10_()
            valid = valid_mask(mel_lengths, log.shape[1]).unsqueeze(2)
            peak = log.masked_fill(~valid, -torch.inf).amax((1, 2), keepdim=True)
            return zero_padding((torch.maximum(log, peak - _DECADES) / 4 + 1).float(), mel_lengths)

    def _convolved(self, mel: Tensor, mel_lengths: Tensor) -> Tensor:
        model = self.model
        frames = F.gelu(model.conv1(mel.transpose(1, 2))).transpose(1, 2)
        frames = zero_padding(frames, mel_lengths)
        frames = F.gelu(model.conv2(frames.transpose(1, 2))).transpose(1, 2)
        frames = frames + model.embed_positions.weight[: frames.shape[1]]
        return F.dropout(frames, model.dropout, self.training)

    def _transformed(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        model = self.model
        mask = create_bidirectional_mask(
            config=model.config,
            inputs_embeds=frames,
            attention_mask=valid_mask(lengths, frames.shape[1]),
        )
        layers = [frames]
        for block in model.layers:
            layers.append(block(layers[-1], mask))
        if not self.is_cut:
            layers[-1] = model.layer_norm(layers[-1])
        return layers[-1:] if self.key == LAST_HIDDEN_STATE else layers
