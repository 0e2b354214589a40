"""Speaker diarization: permutation-invariant training, turns, diarization error rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

import orchestra.tasks
from orchestra.data import SAMPLE_RATE
from orchestra.tasks import Batch, Direction, LossTerms, Outputs, Prediction
from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

from .der import Errors, compare, total
from .head import Head, frame_labels, permutation_invariant_loss
from .turns import Turn, median_filter, speakers_of, turns_from_frames, turns_of

_NOBODY = -1


class Task(orchestra.tasks.Task):
    """See README.md. Errors raised: DataError for turns that can't be used."""

    metrics: Mapping[str, Direction] = {"der": "min", "frame_accuracy": "max"}

    def utterances(self, split: str) -> list[Utterance]:
        """All of a split, whose recordings all have turns or none has.

        Raises:
            NotFoundError, DataError: also for turns that can't be used: now, not at the end.
        """
        utterances = super().utterances(split)
        turns = {utterance.id: turns_of(utterance) for utterance in utterances}
        bare = [name for name, own in turns.items() if own is None]
        if bare and len(bare) < len(utterances):
            raise DataError(
                f"split {split!r}: {len(bare)} of {len(utterances)} recordings have no turns, "
                f"{bare[0]} for one; add theirs (an empty list where nobody speaks), or take them "
                "from all to have them predicted only"
            )
        if utterances and not bare and not any(turns.values()):
            raise DataError(
                f"split {split!r}: nobody speaks in any of its {len(utterances)} recordings, so "
                "there is nothing to learn or to score; check their turns"
            )
        if split == self.data.train:
            self._require_outputs(turns)
        return utterances

    def _require_outputs(self, turns: Mapping[str, list[Turn] | None]) -> None:
        """Each speaker of a recording to train on needs an output of its own (DataError)."""
        outputs = self.config.speakers
        for name, own in turns.items():
            count = len(speakers_of(own or []))
            if count > outputs:
                raise DataError(
                    f"utterance {name} has {count} speakers, but task.speakers = {outputs}; "
                    "raise it, or take the utterance from the training split"
                )

    def target(self, utterance: Utterance) -> torch.Tensor | None:
        """(turns, 3) int64: speaker's number, first sample, end sample; None without turns."""
        turns = turns_of(utterance)
        if turns is None:
            return None
        names = speakers_of(turns)
        rows = [
            [names.index(speaker), round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)]
            for speaker, start, end in turns
        ]
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)

    def collate(self, targets: Sequence[Any]) -> dict[str, torch.Tensor]:
        """turns (batch, turns, 3), speaker -1 where there is none; empty if one is missing."""
        if any(target is None for target in targets):
            return {}
        return {"turns": pad_sequence(list(targets), batch_first=True, padding_value=_NOBODY)}

    def build_head(self, dim: int, stride: int) -> torch.nn.Module:
        return Head(self.config, dim, stride)

    def loss(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        """Permutation-invariant cross entropy, averaged over outputs (weight: frames).

        Raises:
            DataError: there are no turns.
        """
        assert isinstance(head, Head)
        if not batch.targets:
            raise DataError(f"utterance {batch.ids[0]} has no turns to train on")
        logits = head(features)
        _, frames, speakers = logits.shape
        labels = frame_labels(batch.targets["turns"], speakers, frames, head.stride)
        shares = valid_mask(lengths, frames)[:, :, None].expand_as(logits) / speakers
        return LossTerms(
            sum=permutation_invariant_loss(logits, labels, lengths).sum(),
            weight=lengths.sum().to(torch.float32),
            outputs=Outputs(torch.stack([torch.zeros_like(logits), logits], dim=-1), shares),
        )

    def predict(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, duration_s, turns: [[speaker, start_s, end_s], ...]}; speakers are "1", "2" ..."""
        assert isinstance(head, Head)
        decisions = (head(features).sigmoid() > self.config.threshold).cpu().numpy()
        records = []
        sizes = zip(lengths.tolist(), batch.lengths.tolist(), strict=True)
        for name, decided, (frames, samples) in zip(batch.ids, decisions, sizes, strict=True):
            active = median_filter(decided[:frames], self.config.median_frames)
            turns = turns_from_frames(active, head.stride, samples)
            records.append(
                {
                    "id": name,
                    "duration_s": samples / SAMPLE_RATE,
                    "turns": [list(turn) for turn in turns],
                }
            )
        return records

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """With turns in the manifest also {reference, errors}: see der.Errors."""
        reference = turns_of(utterance)
        if reference is None:
            return prediction
        errors = compare(
            reference,
            [(speaker, start, end) for speaker, start, end in prediction["turns"]],
            utterance.duration_s,
            self.config.collar_s,
            self.config.speakers,
        )
        return {
            **prediction,
            "reference": [list(turn) for turn in reference],
            "errors": errors.to_json(),
        }

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """der, frame_accuracy, miss, false_alarm, confusion in percent, and speech_s.

        Pooled over the split; empty for one without turns.

        Raises:
            DataError: nobody speaks in the whole split.
        """
        errors = [Errors(**record["errors"]) for record in predictions if "errors" in record]
        if not errors:
            return {}
        pooled = total(errors)
        if pooled.speech_s == 0:
            raise DataError("nobody speaks in the whole split, so that no error rate is defined")
        parts = {
            "miss": 100.0 * pooled.miss_s / pooled.speech_s,
            "false_alarm": 100.0 * pooled.false_alarm_s / pooled.speech_s,
            "confusion": 100.0 * pooled.confusion_s / pooled.speech_s,
        }
        return {
            "der": sum(parts.values()),
            "frame_accuracy": 100.0 * pooled.right_s / pooled.decided_s,
            **parts,
            "speech_s": pooled.speech_s,
        }
