"""What all pretrained models of transformers share as upstreams, whatever their family."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams.base import Features, Upstream, valid_mask
from orchestra.upstreams.featurizer import choose_layer
from orchestra.upstreams.pretrained import Pretrained
from orchestra.wire.errors import UsageError

HIDDEN_STATES = "hidden_states"
LAST_HIDDEN_STATE = "last_hidden_state"


class PretrainedUpstream(Upstream):
    """A loaded model. Frozen unless `config.trainable`: in eval mode, without gradients.

    Where the config asks for one layer, those above it are dropped and never computed;
    `Features.layers["hidden_states"]` then ends with the one asked for.
    """

    blocks: ClassVar[str] = "encoder.layers"
    """Where the model has the list of its blocks."""

    def __init__(self, config: HuggingFaceConfig, pretrained: Pretrained, model: nn.Module) -> None:
        super().__init__()
        self.stride = pretrained.shape.stride
        self.min_samples = pretrained.shape.min_samples
        self.trainable = config.trainable
        self.key = config.key
        self.pretrained = pretrained
        self.model: Any = model
        dims = self.layer_dims(config.key)
        layer = choose_layer(config.layers, dims, config.key)
        self.is_cut = config.key == HIDDEN_STATES and layer is not None and layer < len(dims) - 1
        self.mend()
        self.requires_grad_(config.trainable)
        if self.is_cut and layer is not None:
            self._cut_above(layer)
        for part in self.idle():
            part.requires_grad_(False)
        self.train()

    @abstractmethod
    def mend(self) -> None:
        """Replace the parts of the model that look at padding."""

    @abstractmethod
    def run(self, wavs: Tensor, lengths: Tensor, valid: Tensor) -> tuple[list[Tensor], Tensor]:
        """The hidden states that `key` names, and (batch,) valid frames.

        Args:
            wavs: (batch, samples), zero at padding.
            lengths: (batch,) in samples.
            valid: (batch, samples) bool.
        """

    def idle(self) -> list[nn.Module | nn.Parameter]:
        """Parts that nothing asked for depends on: DDP waits for ever for their gradients."""
        return []

    def layer_dims(self, key: str) -> list[int]:
        """ "hidden_states": one per layer and the final output; "last_hidden_state": that alone."""
        shape = self.pretrained.shape
        counts = {HIDDEN_STATES: shape.layers, LAST_HIDDEN_STATE: 1}
        if key not in counts:
            raise UsageError(
                f"upstream.key = {key!r}: {self.pretrained.source} has the outputs "
                f"{HIDDEN_STATES!r} and {LAST_HIDDEN_STATE!r}"
            )
        return [shape.dim] * counts[key]

    def identity(self) -> dict[str, str]:
        """Source, and the hub's commit or a hash of the folder's weights."""
        return self.pretrained.identity()

    def train(self, mode: bool = True) -> PretrainedUpstream:
        """Train mode switches dropout on; a frozen model ignores it."""
        super().train(mode and self.trainable)
        return self

    def extract(self, wavs: Tensor, lengths: Tensor) -> Features:
        """See `Upstream.forward`."""
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            valid = valid_mask(lengths, wavs.shape[1])
            layers, frame_lengths = self.run(wavs.masked_fill(~valid, 0.0), lengths, valid)
        return Features({self.key: layers}, frame_lengths)

    def outputs(self, output: Any) -> list[Tensor]:
        """What `key` names, of what transformers' model returned."""
        last: Tensor = output.last_hidden_state
        if self.key == LAST_HIDDEN_STATE:
            return [last]
        if self.is_cut:
            return list(output.hidden_states)
        # transformers 5 captures the last layer's output before the encoder's final layer norm.
        return [*output.hidden_states[:-1], last]

    def _cut_above(self, layer: int) -> None:
        """Drop what hidden state `layer` does not depend on."""
        path, _, name = self.blocks.rpartition(".")
        parent = self.model.get_submodule(path)
        # The first block stays even if its input alone is wanted: transformers captures it there.
        kept = getattr(parent, name)[: max(layer, 1)]
        setattr(parent, name, kept)
        if layer == 0:
            kept.requires_grad_(False)
