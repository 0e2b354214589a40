"""Speaker verification: AM-softmax over training speakers, cosine scores over a list of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import orchestra.tasks
from orchestra.config.schema import DataConfig
from orchestra.tasks import Batch, Direction, LossTerms, Outputs, Prediction
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

from .config import Config
from .head import Head, am_softmax_logits
from .verification import cosine_scores, equal_error_rate, error_rates, minimum_cost

UNSEEN = -1
"""Class of a speaker who is not in the training split: to be verified, not to be trained on."""


class Task(orchestra.tasks.Task):
    """See README.md. Errors raised: DataError for speakers and trials that can't be used."""

    metrics: Mapping[str, Direction] = {"eer": "min", "min_dcf_p01": "min", "min_dcf_p05": "min"}

    def __init__(self, config: Config, data: DataConfig) -> None:
        super().__init__(config, data)
        self._class_of: dict[str, int] = {}

    def utterances(self, split: str) -> list[Utterance]:
        """All of a split, whose trials are among themselves.

        Raises:
            NotFoundError, DataError: also for trials that can't be used: now, not at the end.
        """
        utterances = super().utterances(split)
        ids = {utterance.id for utterance in utterances}
        for utterance in utterances:
            for other, _ in _trials(utterance):
                if other not in ids:
                    raise DataError(
                        f"split {split!r}: a trial of utterance {utterance.id} names {other!r}, "
                        "which is not in the split; prepare the manifests again"
                    )
        kinds = {target for utterance in utterances for _, target in _trials(utterance)}
        if len(kinds) == 1:
            which = "different speakers" if kinds == {1} else "the same speaker"
            raise DataError(
                f"split {split!r}: no trial is of {which}, so that no error rate is defined"
            )
        if split == self.data.valid:
            self._require_trials(split, len(utterances), bool(kinds))
        return utterances

    def _require_trials(self, split: str, count: int, there: bool) -> None:
        """Refuse to train for hours towards a validation that can't be scored (DataError)."""
        if not there:
            raise DataError(
                f"split {split!r} has no trials, so it can't be validated on; "
                "name one that has as data.valid (see tasks/asv/README.md)"
            )
        if (self.data.valid_utterances or count) < count:
            raise DataError(
                f"data.valid_utterances: split {split!r} has trials among its {count} utterances, "
                "so all of them must be predicted; take the key away"
            )

    def learn(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """{speakers}: those of the training split, sorted.

        Raises:
            DataError: an utterance has none, or there is but one.
        """
        speakers = {_speaker(utterance) for utterance in utterances}
        if len(speakers) < 2:
            raise DataError(
                f"split {self.data.train!r} has utterances of one speaker only; "
                "to tell speakers apart takes at least two"
            )
        return {"speakers": sorted(speakers)}

    def recall(self, learnt: Mapping[str, Any]) -> None:
        """Number the speakers."""
        self._class_of = {name: number for number, name in enumerate(learnt["speakers"])}

    def target(self, utterance: Utterance) -> int | None:
        """The speaker's class, UNSEEN for a speaker of another split, None if none is told."""
        if utterance.fields.get("speaker") is None:
            return None
        return self._class_of.get(_speaker(utterance), UNSEEN)

    def collate(self, targets: Sequence[Any]) -> dict[str, torch.Tensor]:
        """speakers (batch,) int64; empty where one is missing."""
        return {} if None in targets else {"speakers": torch.tensor(targets)}

    def build_head(self, dim: int, stride: int) -> torch.nn.Module:
        """The x-vector with a weight per training speaker."""
        return Head(self.config, dim, len(self._class_of))

    def loss(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        """Additive-margin softmax over training speakers, summed over utterances.

        The scalar `train_accuracy` is in percent, without the margin.

        Raises:
            DataError: an utterance is of no speaker, or of one that was not learnt.
        """
        speakers = _trainable(batch)
        cosines = head(features, lengths)
        logits = am_softmax_logits(cosines, speakers, self.config.scale, self.config.margin)
        return LossTerms(
            sum=F.cross_entropy(logits, speakers, reduction="sum"),
            weight=torch.tensor(float(len(batch.ids)), device=logits.device),
            scalars={"train_accuracy": 100.0 * (cosines.argmax(1) == speakers).sum()},
            outputs=Outputs(logits, torch.ones_like(speakers)),
        )

    def predict(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, embedding}: the numbers are float32, as short as they can be written.

        Raises:
            DataError: one is not finite.
        """
        assert isinstance(head, Head)
        embeddings = head.embed(features, lengths).detach().float().cpu().numpy()
        for name, embedding in zip(batch.ids, embeddings, strict=True):
            if not np.isfinite(embedding).all():
                raise DataError(f"utterance {name}: its embedding is not finite (NaN or infinity)")
        return [
            {"id": name, "embedding": [float(str(value)) for value in embedding]}
            for name, embedding in zip(batch.ids, embeddings, strict=True)
        ]

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """With {trials}: pairs [other id, 1 if same speaker]; none where it is not enrolled."""
        return {**prediction, "trials": [list(trial) for trial in _trials(utterance)]}

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """eer in percent, min_dcf_p01 and min_dcf_p05 (target prior 0.01, 0.05), and `trials`.

        Empty for a split without trials.

        Raises:
            DataError: a trial names an utterance that was not predicted, or all are of one kind.
        """
        trials = {record["id"]: record["trials"] for record in predictions if record.get("trials")}
        if not trials:
            return {}
        embeddings = {record["id"]: np.array(record["embedding"]) for record in predictions}
        scores, targets = cosine_scores(embeddings, trials)
        rates = error_rates(scores, targets)
        return {
            "eer": 100.0 * equal_error_rate(rates),
            "min_dcf_p01": minimum_cost(rates, 0.01),
            "min_dcf_p05": minimum_cost(rates, 0.05),
            "trials": float(len(scores)),
        }


def _speaker(utterance: Utterance) -> str:
    speaker = utterance.fields.get("speaker")
    if speaker is None:
        raise DataError(f"utterance {utterance.id} has no speaker to train on")
    if not isinstance(speaker, str) or not speaker.strip():
        raise DataError(
            f"utterance {utterance.id}: speaker must be a text that is not empty, not {speaker!r}"
        )
    return speaker


def _trials(utterance: Utterance) -> list[tuple[str, int]]:
    """Trials in which the utterance is enrolled (DataError: they are no list of pairs)."""
    try:
        trials = [(str(other), target) for other, target in utterance.fields.get("trials", [])]
        usable = all(target in (0, 1) for _, target in trials)
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise DataError(f"utterance {utterance.id}: trials must be pairs [id, 0 or 1]")
    return trials


def _trainable(batch: Batch) -> torch.Tensor:
    """(batch,) classes (DataError: an utterance has none)."""
    if not batch.targets:
        raise DataError(f"utterance {batch.ids[0]} or another of its batch has no speaker")
    speakers = batch.targets["speakers"]
    unseen = torch.nonzero(speakers == UNSEEN).flatten().tolist()
    if unseen:
        raise DataError(
            f"utterance {batch.ids[unseen[0]]}: its speaker is not among those of the training "
            "split when the run began; start a new run"
        )
    return speakers
