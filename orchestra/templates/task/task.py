"""newtask: tell which class a recording belongs to; classes are the labels of the training split.

Change, from top to bottom: what is learnt from the data, the head, the loss, the predictions and
their score. `orchestra task check newtask` tells whether it still keeps the contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from orchestra import tasks
from orchestra.config.schema import DataConfig
from orchestra.tasks import Batch, Direction, LossTerms, Prediction
from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

from .config import Config


class Head(nn.Module):
    """A layer per frame, the mean over an utterance's frames, a layer per class."""

    def __init__(self, dim: int, classes: int, config: Config) -> None:
        super().__init__()
        self.frame = nn.Linear(dim, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.utterance = nn.Linear(config.hidden, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Logits (batch, classes) from features (batch, frames, dim) and lengths in frames."""
        hidden = torch.relu(self.frame(features))
        # What lies behind an utterance's length is padding, which must change nothing.
        valid = valid_mask(lengths, features.shape[1])[:, :, None]
        mean = hidden.masked_fill(~valid, 0.0).sum(1) / lengths[:, None]
        logits: Tensor = self.utterance(self.dropout(mean))
        return logits


class Task(tasks.Task):
    """Classification of recordings.

    Its utterances come from the manifests that prepare.py writes, one JSON object a line; whatever
    a line holds is in `utterance.fields`. Where there is no corpus on disk, override `utterances`
    and `read` (the built-in task `example` does).
    """

    # The first one names the best checkpoint.
    metrics: Mapping[str, Direction] = {"accuracy": "max"}

    def __init__(self, config: Config, data: DataConfig) -> None:
        super().__init__(config, data)
        self.classes: list[str] = []

    def learn(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """What predicting needs of the training split; kept with the run, as JSON."""
        labels = {label for each in utterances if (label := _label(each)) is not None}
        return {"classes": sorted(labels)}

    def recall(self, learnt: Mapping[str, Any]) -> None:
        """Called before `build_head`, in every process, also where the corpus is gone."""
        self.classes = list(learnt.get("classes", []))

    def target(self, utterance: Utterance) -> int | None:
        """The number of its class; None where a recording has no label (DataError: unknown)."""
        label = _label(utterance)
        if label is None:
            return None
        if label not in self.classes:
            raise DataError(
                f"utterance {utterance.id}: label {label!r} is not in the training split, which "
                f"has {', '.join(self.classes)}"
            )
        return self.classes.index(label)

    def collate(self, targets: Sequence[Any]) -> dict[str, Tensor]:
        """labels (batch,) int64; nothing where a recording has none."""
        return {} if None in targets else {"labels": torch.tensor(targets)}

    def build_head(self, dim: int, stride: int) -> nn.Module:
        """The part that is trained, on features of `dim` dimensions."""
        return Head(dim, len(self.classes), self.config)

    def loss(self, head: nn.Module, features: Tensor, lengths: Tensor, batch: Batch) -> LossTerms:
        """Cross entropy, as a sum over utterances and how many these are: never a mean."""
        if not batch.targets:
            raise DataError(f"utterance {batch.ids[0]} has no label to train on")
        logits, labels = head(features, lengths), batch.targets["labels"]
        return LossTerms(
            sum=cross_entropy(logits, labels, reduction="sum"),
            weight=torch.tensor(float(len(batch.ids)), device=logits.device),
        )

    def predict(
        self, head: nn.Module, features: Tensor, lengths: Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, predicted}: what was recognised, without references."""
        best = head(features, lengths).argmax(1).tolist()
        return [
            {"id": name, "predicted": self.classes[number]}
            for name, number in zip(batch.ids, best, strict=True)
        ]

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """With a label also {label}: what `score` compares to."""
        label = _label(utterance)
        return prediction if label is None else {**prediction, "label": label}

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """accuracy in percent, over the recordings that have a label; {} if none has."""
        known = [record for record in predictions if "label" in record]
        if not known:
            return {}
        right = sum(record["predicted"] == record["label"] for record in known)
        return {"accuracy": 100.0 * right / len(known)}


def _label(utterance: Utterance) -> str | None:
    label = utterance.fields.get("label")
    return None if label is None else str(label)
