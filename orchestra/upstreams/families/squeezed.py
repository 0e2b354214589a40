"""SEW and SEW-D: the transformer sees averages over pairs of frames (`squeeze_factor`).

"hidden_states" are those of the squeezed blocks, one frame per 40 ms in published models;
"last_hidden_state" is what the model makes of them: frames of 20 ms again.

What looks at padding, besides the first group norm: transformers counts an average over half an
utterance's last frame and half of padding as valid in a batch, though the utterance alone has none.
So the encoder's steps are taken here, with its own modules.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from orchestra.upstreams.base import valid_mask
from orchestra.upstreams.families.base import HIDDEN_STATES, LAST_HIDDEN_STATE
from orchestra.upstreams.families.waveform import WaveformUpstream, zero_padding


class SqueezedUpstream(WaveformUpstream):
    """What SEW and SEW-D share."""

    def mend_encoder(self) -> None:
        """The stride depends on the output."""
        if self.key == LAST_HIDDEN_STATE:
            self.stride //= self.model.config.squeeze_factor

    def idle(self) -> list[nn.Module | nn.Parameter]:
        """Squeezed frames are not brought back for "hidden_states"."""
        return [self.model.encoder.upsample] if self.key == HIDDEN_STATES else []

    def run(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `PretrainedUpstream.run`."""
        factor = self.model.config.squeeze_factor
        frame_lengths = self.set_lengths(lengths)
        frames = self._encoded(self.prepared(wavs, lengths, valid), frame_lengths)
        squeezed_lengths = frame_lengths // factor
        layers = self.transformed(self._squeezed(frames), squeezed_lengths)
        if self.key == LAST_HIDDEN_STATE:
            return [self.model.encoder.upsample(layers[-1])], squeezed_lengths * factor
        return layers, squeezed_lengths

    @abstractmethod
    def transformed(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """The input of each block, and the last one's output."""

    def _encoded(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        model = self.model
        frames = model.layer_norm(model.feature_extractor(wavs).transpose(1, 2))
        if model.project_features:
            frames = model.feature_projection(frames)
        return zero_padding(model.feature_dropout(frames), lengths)

    def _squeezed(self, frames: Tensor) -> Tensor:
        encoder = self.model.encoder
        channels = frames.transpose(1, 2)
        pooled: Tensor = encoder.pool(channels)
        positions = encoder.pos_conv_embed(channels)
        squeezed: Tensor = pooled + positions[..., : pooled.shape[-1]]
        return squeezed.transpose(1, 2)


class SewUpstream(SqueezedUpstream):
    """Plain attention."""

    def transformed(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """See `SqueezedUpstream`."""
        encoder = self.model.encoder
        mask = create_bidirectional_mask(
            config=self.model.config,
            inputs_embeds=frames,
            attention_mask=valid_mask(lengths, frames.shape[1]),
        )
        layers = [encoder.dropout(encoder.layer_norm(frames))]
        for block in encoder.layers:
            layers.append(block(layers[-1], attention_mask=mask))
        return layers


class SewDUpstream(SqueezedUpstream):
    """Disentangled attention: content and position apart."""

    blocks = "encoder.encoder.layer"

    def transformed(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """See `SqueezedUpstream`."""
        encoder = self.model.encoder.encoder
        mask = encoder.get_attention_mask(valid_mask(lengths, frames.shape[1]).long())
        positions = encoder.get_rel_pos(frames)
        embeddings = encoder.get_rel_embedding()
        layers = [frames]
        for block in encoder.layer:
            layers.append(
                block(layers[-1], mask, relative_pos=positions, rel_embeddings=embeddings)
            )
        return layers
