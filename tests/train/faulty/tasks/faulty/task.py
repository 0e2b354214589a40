"""A task with a fault that one utterance brings out: what capsules are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from orchestra import tasks
from orchestra.tasks import Batch, Direction, LossTerms, Prediction
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance


class Gate(nn.Module):
    """Where NaN comes from; `guilty` (batch,) says in which rows."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, features: torch.Tensor, guilty: torch.Tensor) -> torch.Tensor:
        if self.fault == "nan":
            return features / (1.0 - guilty.float())[:, None] * (1.0 - guilty.float())[:, None]
        if self.fault == "gradient":  # of a root at 0, though the root itself is fine
            return (features * (1.0 - guilty.float())[:, None]).abs().sqrt()
        return features


class Head(nn.Module):
    """Mean over valid frames, dropout, two layers; draws so that the order of seeds shows."""

    def __init__(self, dim: int, fault: str) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 16)
        self.norm = nn.BatchNorm1d(16)
        self.gate = Gate(fault)
        self.dropout = nn.Dropout(0.2)
        self.outer = nn.Linear(16, 3)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor, guilty: torch.Tensor
    ) -> torch.Tensor:
        valid = torch.arange(features.shape[1]) < lengths[:, None]
        hidden = torch.relu(self.norm(self.inner(features[valid])))
        rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        sums = torch.zeros(len(lengths), 16).index_add(0, rows, hidden.float())
        return self.outer(self.dropout(self.gate(sums / lengths[:, None], guilty)))


class Task(tasks.Task):
    metrics: Mapping[str, Direction] = {"loss": "min"}

    def utterances(self, split: str) -> list[Utterance]:
        count = 24 if split == self.data.train else 3
        return [
            Utterance(f"{split}-{n}", Path("/nowhere"), 0.0, _duration_s(n), {"label": n % 3})
            for n in range(count)
        ]

    def read(self, utterance: Utterance) -> Any:
        draw = np.random.default_rng(int(utterance.id.split("-")[1]))
        return draw.standard_normal(round(16000 * utterance.duration_s)).astype(np.float32)

    def target(self, utterance: Utterance) -> tuple[int, float]:
        """The class, and what the utterance counts."""
        if self.config.fault == "read" and self.config.guilty == utterance.id:
            raise KeyError(utterance.id)
        bad = self.config.fault == "target" and self.config.guilty == utterance.id
        return int(utterance.fields["label"]), math.nan if bad else 1.0

    def collate(self, targets: Sequence[Any]) -> dict[str, torch.Tensor]:
        labels, counts = zip(*targets, strict=True)
        return {"labels": torch.tensor(labels), "counts": torch.tensor(counts)}

    def build_head(self, dim: int, stride: int) -> nn.Module:
        return Head(dim, self.config.fault)

    def loss(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        guilty = torch.tensor([self.config.guilty in (name, "*") for name in batch.ids])
        if guilty.any() and self.config.fault == "error":
            # Two numbers tell whether a replay draws the same and has the same weights.
            told = f"{float(torch.rand(()))} {float(head.inner.weight.detach().sum())}"
            raise ValueError(f"{len(batch.ids)} utterances can't be aligned: {told}")
        if guilty.any() and self.config.fault == "usage":
            raise DataError(f"utterance {self.config.guilty} has no label")
        logits = head(features, lengths, guilty)
        losses = F.cross_entropy(logits, batch.targets["labels"], reduction="none")
        return LossTerms(
            (losses * batch.targets["counts"]).sum(), torch.tensor(float(len(batch.ids)))
        )

    def predict(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        logits = head(features, lengths, torch.zeros(len(batch.ids)))
        losses = F.cross_entropy(logits, batch.targets["labels"], reduction="none").tolist()
        return [{"id": i, "loss": loss} for i, loss in zip(batch.ids, losses, strict=True)]

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        return {"loss": sum(record["loss"] for record in predictions) / len(predictions)}


def _duration_s(number: int) -> float:
    """Two are longer than the others: the warm-up takes them and never meets the guilty one."""
    return 0.5 if number >= 22 else 0.3 - 0.01 * (number % 3)
