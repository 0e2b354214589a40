"""The whole model of a run: upstream, featurizer and the task's head.

What DDP wraps; knows nothing of ranks, optimizers or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from orchestra.config.schema import RunConfig
from orchestra.tasks import Batch, LossTerms, Prediction, Task
from orchestra.train.fit import misfits, shortened
from orchestra.train.regularise import regularised
from orchestra.train.seeds import reseed
from orchestra.upstreams import build_upstream
from orchestra.upstreams.featurizer import Featurizer
from orchestra.wire.errors import DataError, UsageError


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
        self.featurizer = Featurizer(config.upstream, self.upstream)
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
        """One record per utterance; call in eval mode and without gradients."""
        features, lengths = self._features(batch)
        return self._task.predict(self.head, features, lengths, batch)

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
            try:
                features = self.upstream(batch.wavs, batch.lengths)
            except DataError as error:  # too short: the upstream knows rows, not ids
                name = batch.ids[int(batch.lengths.argmin())]
                raise DataError(f"utterance {name} can't be used: {error}") from error
        mixed: tuple[Tensor, Tensor] = self.featurizer(features)
        return mixed


def build_model(config: RunConfig, task: Task) -> SpeechModel:
    """The model with its initial weights, the same in every rank and attempt."""
    reseed(config.seed, "model")
    return SpeechModel(config, task)
