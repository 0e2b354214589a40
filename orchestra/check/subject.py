"""The task under examination, and what the rules look at: some utterances, batches, models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestra.check import handed
from orchestra.check.mistakes import Violation, of_task
from orchestra.config.schema import RunConfig
from orchestra.data.loader import Loader, Request
from orchestra.tasks import Batch, LossTerms, Prediction, Task, TaskInfo
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.seeds import reseed
from orchestra.upstreams.base import valid_mask
from orchestra.wire.manifest import Utterance

FEW = 6
"""Utterances that most rules look at, of lengths as different as the split has them."""

GARBAGE = 1e3
"""Standard deviation of what is put where there is only padding."""


@dataclass(frozen=True)
class Built:
    """A task, and the model with its head; untrained, the same each time."""

    task: Task
    model: SpeechModel

    def loss(self, batch: Batch) -> LossTerms:
        """In the mode that the model is in; under the same random numbers each time."""
        reseed(0, "check")
        return handed.terms(self.model(batch))

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(batch, frames, dim), and lengths (batch,) in frames; without gradients."""
        with torch.no_grad():
            mixed: tuple[Tensor, Tensor] = self.model.featurizer(
                self.model.upstream(batch.wavs, batch.lengths)
            )
        return mixed

    def predict(self, batch: Batch) -> list[Prediction]:
        """As an evaluation does."""
        self.model.eval()
        with torch.no_grad():
            return handed.records(self.model.predict(batch))

    def predict_each(self, batches: Sequence[Batch]) -> list[Prediction]:
        """Of all batches, ordered by id."""
        records = [record for batch in batches for record in self.predict(batch)]
        return sorted(records, key=lambda record: str(record.get("id")))


@dataclass(frozen=True)
class Subject:
    """A task with its config and data."""

    config: RunConfig
    folder: Path
    """Of the task's code."""
    task_class: type[Task]

    @classmethod
    def of(cls, config: RunConfig, info: TaskInfo) -> Subject:
        """A task found on disk (MistakeError, UsageError: its task.py can't be used)."""
        with of_task(info.folder):
            return cls(config, info.folder, info.task_class())

    @cached_property
    def learnt(self) -> dict[str, Any]:
        """What the task learns from the training split."""
        return handed.learnt(self._bare().learn(list(self.train)))

    @cached_property
    def train(self) -> list[Utterance]:
        """The training split."""
        return self.utterances(self.config.data.train, self._bare())

    @cached_property
    def valid(self) -> list[Utterance]:
        """The validation split, as a task reads it that has learnt."""
        return self.utterances(self.config.data.valid)

    @cached_property
    def few(self) -> list[Utterance]:
        """`FEW` of the training split, the shortest and the longest among them."""
        ordered = sorted(self.train, key=lambda utterance: (utterance.duration_s, utterance.id))
        if len(ordered) < 2:
            raise Violation(
                f"the training split {self.config.data.train!r} has {len(ordered)} utterances; "
                "give at least two to look at"
            )
        last, count = len(ordered) - 1, min(FEW, len(ordered))
        return [ordered[round(number * last / (count - 1))] for number in range(count)]

    @property
    def splits(self) -> list[str]:
        """Those that the config names."""
        data = self.config.data
        return list(dict.fromkeys([data.train, data.valid, *data.test]))

    def utterances(self, split: str, task: Task | None = None) -> list[Utterance]:
        """All of a split, as a task reads it that has learnt."""
        return handed.utterances((task or self.new_task()).utterances(split), split)

    def new_task(self, config: RunConfig | None = None) -> Task:
        """As another process has it: constructed, then told what was learnt, as JSON keeps it."""
        task = self._bare(config)
        task.recall(json.loads(json.dumps(self.learnt)))
        return task

    def build(self, task: Task | None = None) -> Built:
        """A new model, the same each time."""
        task = task or self.new_task()
        model = build_model(self.config, task)
        handed.head(model.head)
        return Built(task, model)

    def batch(self, utterances: Sequence[Utterance], task: Task | None = None) -> Batch:
        """All of them in one batch, as a rank reads it."""
        loader = Loader(task or self.new_task(), utterances, seed=self.config.seed, workers=0)
        batch = loader.read(Request(0, tuple(range(len(utterances)))))
        handed.targets(batch.targets)
        return batch

    def singles(self, utterances: Sequence[Utterance]) -> list[Batch]:
        """Each in a batch of its own."""
        return [self.batch([utterance]) for utterance in utterances]

    def _bare(self, config: RunConfig | None = None) -> Task:
        config = config or self.config
        return self.task_class(config.task, config.data)


def soiled(features: Tensor, lengths: Tensor, *, more: int = 0) -> Tensor:
    """The same with garbage where there is only padding, and in `more` frames behind."""
    draw = torch.Generator().manual_seed(0)
    shape = (features.shape[0], features.shape[1] + more, features.shape[2])
    garbage = GARBAGE * torch.randn(shape, generator=draw)
    valid = valid_mask(lengths, shape[1])[:, :, None]
    whole = torch.nn.functional.pad(features, (0, 0, 0, more))
    return torch.where(valid, whole, garbage)


def numbers(terms: LossTerms) -> Mapping[str, float]:
    """Sum, weight and scalars by name."""
    named = {"sum": terms.sum, "weight": terms.weight, **terms.scalars}
    return {name: float(value.detach()) for name, value in named.items()}
