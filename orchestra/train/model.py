"""The whole model of a run: upstream, featurizer and the task's head.

What DDP wraps; knows nothing of ranks, optimizers or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from orchestra.config.schema import LayeredConfig, RunConfig
from orchestra.tasks import Batch, LossTerms, Prediction, Task
from orchestra.train.fit import misfits, shortened
from orchestra.train.regularise import regularised
from orchestra.train.seeds import reseed
from orchestra.upstreams import build_upstream
from orchestra.upstreams.base import Features, Upstream
from orchestra.upstreams.featurizer import Featurizer
from orchestra.upstreams.rounded import REMEDY, Keep, RoundedUpstream, layer_of
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.features import layers_to_keep


class SpeechModel(nn.Module):
    """Waveforms to the task's loss terms or predictions."""

    def __init__(self, config: RunConfig, task: Task) -> None:
        super().__init__()
        self._task = task
        self._regularise = config.regularise
        self._in_eval: tuple[nn.Module, ...] = ()
        self.upstream = build_upstream(config.upstream)
        if not self.upstream.trainable:
            self.upstream.requires_grad_(False)
        self.stored_layers = _stored_layers(config, self.upstream)
        """Numbers of the hidden states that the feature cache holds; None without one."""
        self.featurizer = Featurizer(config.upstream, self.upstream, self.stored_layers)
        self._rounded: RoundedUpstream | None = None
        if self.stored_layers is not None:
            key = self.featurizer.key
            self._rounded = RoundedUpstream(self.upstream, key, self.stored_layers)
        self.head = task.build_head(self.featurizer.dim, self.upstream.stride)
        self.train()

    def train(self, mode: bool = True) -> SpeechModel:
        """A frozen upstream and what `keep_in_eval` was told stay in eval mode."""
        super().train(mode)
        if not self.upstream.trainable:
            self.upstream.eval()
        for module in self._in_eval:
            module.eval()
        return self

    def keep_in_eval(self, modules: Sequence[nn.Module]) -> None:
        """From now on these parts, and no others of earlier calls, never are in training mode."""
        self._in_eval = tuple(modules)
        self.train(self.training)

    def keep_features(self, keep: Keep) -> None:
        """From now on features that had to be computed go there; for the feature cache."""
        assert self._rounded is not None, "cache.features is off"
        self._rounded.keep = keep

    def forward(self, batch: Batch) -> LossTerms:
        """The training loss of a batch, with what `regularise` adds to it.

        Raises:
            UsageError: it adds something, and the task gives no outputs.
        """
        features, lengths = self._features(batch)

        def second() -> tuple[Tensor, Tensor]:
            # Nothing is random in a frozen upstream.
            return self._features(batch) if self.upstream.trainable else (features, lengths)

        return regularised(
            self._regularise, self._task, self.head, features, lengths, batch, second
        )

    def predict(self, batch: Batch) -> list[Prediction]:
        """One record per utterance; call in eval mode and without gradients.

        Raises:
            DataError: an utterance is too short, or its features are not finite; names the id.
        """
        features, lengths = self._features(batch)
        if not bool(features.isfinite().all()):
            what = self.non_finite_features(batch)
            name = what[0] if what else "the learnt sum of features"
            raise DataError(f"{name} is not finite: {REMEDY}")
        return self._task.predict(self.head, features, lengths, batch)

    def non_finite_features(self, batch: Batch) -> list[str]:
        """Names of the utterances, each with its first layer, whose features are not finite."""
        if self._rounded is not None:
            return []  # refused as soon as they are computed
        with torch.no_grad():
            features = self._extract(batch)
        found: dict[int, str] = {}
        for number, layer in enumerate(features.layers[self.featurizer.key]):
            for row, length in enumerate(features.lengths.tolist()):
                if not bool(layer[row, :length].isfinite().all()):
                    found.setdefault(row, layer_of(batch.ids[row], number))
        return [found[row] for row in sorted(found)]

    def saved_state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, without a frozen upstream's."""
        frozen = () if self.upstream.trainable else ("upstream.",)
        return {k: v for k, v in self.state_dict().items() if not k.startswith(frozen)}

    def load_saved_state(self, state: dict[str, Tensor]) -> None:
        """Copy the values in, in place.

        Raises:
            UsageError: a tensor is missing, unknown, or of another shape or type; says which.
        """
        own = self.saved_state()
        if found := misfits(own, state):
            raise UsageError(f"the checkpoint is of another model: {shortened(found)}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def saved_buffers(self) -> Iterator[Tensor]:
        """The buffers among `saved_state`: what ranks may hold different values of."""
        parameters = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        return (v for k, v in self.saved_state().items() if k not in parameters)

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(self.upstream.trainable and torch.is_grad_enabled()):
            features = self._extract(batch)
        mixed: tuple[Tensor, Tensor] = self.featurizer(features)
        return mixed

    def _extract(self, batch: Batch) -> Features:
        if self._rounded is not None:
            return self._rounded.features(batch)
        try:
            features: Features = self.upstream(batch.wavs, batch.lengths)
        except DataError as error:  # too short: the upstream knows rows, not ids
            name = batch.ids[int(batch.lengths.argmin())]
            raise DataError(f"utterance {name} can't be used: {error}") from error
        return features


def _stored_layers(config: RunConfig, upstream: Upstream) -> list[int] | None:
    """UsageError: cache.layers names one that there is not."""
    if not config.cache.features:
        return None
    chosen = config.upstream if isinstance(config.upstream, LayeredConfig) else None
    count = len(upstream.layer_dims(chosen.key if chosen else "hidden_states"))
    return layers_to_keep(config.cache.layers, chosen.layers if chosen else None, count)


def build_model(config: RunConfig, task: Task) -> SpeechModel:
    """The model with its initial weights, the same in every rank and attempt."""
    reseed(config.seed, "model")
    return SpeechModel(config, task)
