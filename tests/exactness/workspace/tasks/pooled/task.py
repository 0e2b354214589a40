"""Classes of recordings in manifests, by mean pooling: as little beside the upstream as can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from orchestra import tasks
from orchestra.tasks import Batch, Direction, LossTerms, Prediction
from orchestra.wire.manifest import Utterance


class Task(tasks.Task):
    metrics: Mapping[str, Direction] = {"loss": "min"}

    def target(self, utterance: Utterance) -> int:
        return int(utterance.fields["label"])

    def collate(self, targets: Sequence[Any]) -> dict[str, torch.Tensor]:
        return {"labels": torch.tensor(targets)}

    def build_head(self, dim: int, stride: int) -> nn.Module:
        return nn.Linear(dim, self.config.classes)

    def loss(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        losses = self._losses(head, features, lengths, batch)
        return LossTerms(losses.sum(), torch.tensor(float(len(losses))))

    def predict(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        losses = self._losses(head, features, lengths, batch).tolist()
        return [{"id": i, "loss": loss} for i, loss in zip(batch.ids, losses, strict=True)]

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        return {"loss": sum(record["loss"] for record in predictions) / len(predictions)}

    def _losses(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        means = features.sum(1) / lengths.unsqueeze(1)
        return F.cross_entropy(head(means), batch.targets["labels"], reduction="none")
