"""The example task: tell which of a few tones sounds in noise. Needs no corpus."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestra import tasks
from orchestra.data import SAMPLE_RATE
from orchestra.tasks import Batch, Direction, LossTerms, Outputs, Prediction
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance, join, parts_of

LOWEST_HZ, HIGHEST_HZ = 300.0, 3400.0
BURST = 0.25  # share of the utterance in which the tone sounds
NOWHERE = Path("/nowhere")
UNLABELLED = "unlabelled"  # splits whose name begins so are predicted, not scored


class Head(nn.Module):
    """Two layers, with the maximum over the valid frames in between."""

    def __init__(self, dim: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.frame = nn.Linear(dim, hidden)
        self.dropout = nn.Dropout(dropout)
        self.utterance = nn.Linear(hidden, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Logits (batch, classes) from features (batch, frames, dim) and lengths in frames."""
        hidden = torch.relu(self.frame(features))
        valid = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
        # No frame is below zero after the relu, so that padding is never the maximum.
        pooled = hidden.masked_fill(~valid[:, :, None], 0.0).amax(1)
        logits: Tensor = self.utterance(self.dropout(pooled))
        return logits


class Task(tasks.Task):
    """Classification of synthetic tones."""

    metrics: Mapping[str, Direction] = {"accuracy": "max"}

    def utterances(self, split: str) -> list[Utterance]:
        """Ids, durations and labels of a split; keyed by its (part's) name and number alone."""
        return join(split, self._part)

    def read(self, utterance: Utterance) -> npt.NDArray[np.float32]:
        """The waveform, made from the id; 16 kHz, (samples,). A recording on disk is read."""
        if utterance.path != NOWHERE:
            return super().read(utterance)
        noise = _generator(utterance.id, "noise")
        tone, _ = self._shape(utterance.id)
        ratio = (HIGHEST_HZ / LOWEST_HZ) ** (tone / (self.config.classes - 1))
        seconds = np.arange(round(utterance.duration_s * SAMPLE_RATE)) / SAMPLE_RATE
        wave = np.sin(2 * np.pi * LOWEST_HZ * ratio * seconds)
        # A short burst: a tone that never stops would vanish in per-utterance normalisation.
        start_s = noise.uniform(0.0, 1.0 - BURST) * utterance.duration_s
        wave *= (seconds >= start_s) & (seconds < start_s + BURST * utterance.duration_s)
        wav = wave + self.config.noise * noise.standard_normal(seconds.size)
        quiet: npt.NDArray[np.float32] = (0.1 * wav).astype(np.float32)
        return quiet

    def target(self, utterance: Utterance) -> int | None:
        """The number of the tone, or None in an unlabelled split."""
        return utterance.fields.get("label")

    def collate(self, targets: Sequence[Any]) -> dict[str, Tensor]:
        """labels (batch,); empty where one is missing."""
        return {} if None in targets else {"labels": torch.tensor(targets)}

    def build_head(self, dim: int, stride: int) -> nn.Module:
        config = self.config
        return Head(dim, config.hidden, config.classes, config.dropout)

    def loss(self, head: nn.Module, features: Tensor, lengths: Tensor, batch: Batch) -> LossTerms:
        """Cross entropy, summed over utterances (DataError: they have no labels)."""
        if not batch.targets:
            raise DataError(f"utterance {batch.ids[0]} has no label to train on")
        time.sleep(self.config.delay_s)
        logits = head(features, lengths)
        labels = batch.targets["labels"]
        correct = (logits.argmax(1) == labels).sum()
        return LossTerms(
            sum=F.cross_entropy(logits, labels, reduction="sum"),
            weight=torch.tensor(float(len(batch.ids)), device=logits.device),
            scalars={"train_accuracy": 100.0 * correct},
            outputs=Outputs(logits, torch.ones_like(labels)),
        )

    def predict(
        self, head: nn.Module, features: Tensor, lengths: Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, predicted}."""
        guesses = head(features, lengths).argmax(1).tolist()
        return [
            {"id": utterance_id, "predicted": guess}
            for utterance_id, guess in zip(batch.ids, guesses, strict=True)
        ]

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """Where the tone is known also {label}."""
        label = self.target(utterance)
        return prediction if label is None else {**prediction, "label": label}

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Percent of the utterances whose tone is told rightly; nothing without labels."""
        known = [record for record in predictions if "label" in record]
        if not known:
            return {}
        right = sum(record["predicted"] == record["label"] for record in known)
        return {"accuracy": 100.0 * right / len(known)}

    def _part(self, split: str) -> list[Utterance]:
        config = self.config
        is_trained = split in parts_of(self.data.train)
        count = config.train_utterances if is_trained else config.other_utterances
        return [self._utterance(f"{split}-{number:05d}") for number in range(count)]

    def _utterance(self, utterance_id: str) -> Utterance:
        tone, duration_s = self._shape(utterance_id)
        fields: dict[str, Any] = {"id": utterance_id, "duration_s": duration_s}
        if not utterance_id.startswith(UNLABELLED):
            fields["label"] = tone
        return Utterance(utterance_id, NOWHERE, 0.0, duration_s, fields)

    def _shape(self, utterance_id: str) -> tuple[int, float]:
        """Number of the tone, and seconds."""
        draw = _generator(utterance_id, "shape")
        tone = int(draw.integers(self.config.classes))
        return tone, round(draw.uniform(self.config.shortest_s, self.config.longest_s), 3)


def _generator(utterance_id: str, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{utterance_id}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
