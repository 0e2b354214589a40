"""A task with everything that can break bit identity: dropout, batch norm, uneven batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from orchestra import tasks
from orchestra.tasks import Batch, Direction, LossTerms, Outputs, Prediction
from orchestra.wire.manifest import Utterance


class Head(nn.Module):
    """Batch norm over valid frames, dropout, mean pooling."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 48)
        self.norm = nn.BatchNorm1d(48)
        self.dropout = nn.Dropout(0.3)
        self.outer = nn.Linear(48, 3)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        valid = torch.arange(features.shape[1]) < lengths[:, None]
        hidden = self.norm(self.inner(features[valid]))
        hidden = self.dropout(torch.relu(hidden))
        rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        sums = torch.zeros(len(lengths), 48).index_add(0, rows, hidden.float())
        return self.outer(sums / lengths[:, None])


class Task(tasks.Task):
    metrics: Mapping[str, Direction] = {"loss": "min"}

    def utterances(self, split: str) -> list[Utterance]:
        count = {self.data.train: self.config.train_utterances, "void": 0}.get(split, 11)
        return [
            Utterance(
                f"{split}-{n}", Path("/nowhere"), 0.0, 0.1 + 0.03 * (n % 13), {"label": n % 3}
            )
            for n in range(count)
        ]

    def read(self, utterance: Utterance) -> Any:
        draw = np.random.default_rng(int(utterance.id.split("-")[1]))
        return draw.standard_normal(round(16000 * utterance.duration_s)).astype(np.float32)

    def target(self, utterance: Utterance) -> int:
        return int(utterance.fields["label"])

    def collate(self, targets: Sequence[Any]) -> dict[str, torch.Tensor]:
        return {"labels": torch.tensor(targets)}

    def build_head(self, dim: int, stride: int) -> nn.Module:
        return Head(dim)

    def loss(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        # Augmentation as a task does it: noise keyed by the utterance's own seed.
        noise = [torch.rand(1, generator=torch.Generator().manual_seed(s)) for s in batch.seeds]
        logits = head(features * (0.9 + 0.2 * torch.stack(noise)[:, :, None]), lengths)
        loss = F.cross_entropy(logits, batch.targets["labels"], reduction="sum")
        loss = loss * self.config.loss_factor
        weights = torch.ones(len(batch.ids))
        return LossTerms(loss, weights.sum(), outputs=Outputs(logits, weights))

    def predict(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        logits = head(features, lengths)
        losses = F.cross_entropy(logits, batch.targets["labels"], reduction="none").tolist()
        return [{"id": i, "loss": loss} for i, loss in zip(batch.ids, losses, strict=True)]

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        return {"loss": sum(record["loss"] for record in predictions) / len(predictions)}
