"""Where a run stands: everything a checkpoint holds that is no tensor."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestra.config.schema import RunConfig
from orchestra.data.batches import Position
from orchestra.tasks import Direction
from orchestra.train.retention import better
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.manifest import Utterance


@dataclass
class Progress:
    """The one mutable state of the loop, equal on all ranks."""

    step: int = 0
    """Optimizer steps taken (skipped ones count)."""
    position: Position = field(default_factory=Position)
    validated_step: int = 0
    """The last step whose validation ended; a stop may come in between."""
    score: float | None = None
    """Of that validation; None if it is not finite."""
    best_scores: list[float] = field(default_factory=list)
    """Best validation scores so far, best first, at most checkpoint.keep_best."""
    skipped: int = 0
    """Steps that were not applied because something was not finite, in the whole run."""
    skipped_in_a_row: int = 0

    def admit(self, score: float, direction: Direction, keep_best: int) -> bool:
        """Note the score of this step; whether it is among the best, so that it is worth a save."""
        self.validated_step = self.step
        self.score = score if math.isfinite(score) else None
        if self.score is None:
            return False
        place = sum(not better(score, old, direction) for old in self.best_scores)
        if place >= keep_best:
            return False
        self.best_scores = [*self.best_scores[:place], score, *self.best_scores[place:]][:keep_best]
        return True


@dataclass(frozen=True)
class Fingerprint:
    """What the plan of batches depends on: a position means nothing under another."""

    seed: int
    micro_batches: int
    data: str

    @classmethod
    def of(cls, config: RunConfig, utterances: Sequence[Utterance]) -> Fingerprint:
        """Of a run's config and training split."""
        assert config.batch.micro_batches is not None
        digest = hashlib.sha256()
        for utterance in utterances:
            digest.update(f"{utterance.id} {utterance.duration_s}\n".encode())
        return cls(config.seed, config.batch.micro_batches, digest.hexdigest())


def to_document(progress: Progress, fingerprint: Fingerprint) -> dict[str, Any]:
    """A JSON object."""
    return {"progress": asdict(progress), "fingerprint": asdict(fingerprint)}


def from_document(document: dict[str, Any], fingerprint: Fingerprint) -> Progress:
    """The inverse, for a run with this fingerprint.

    Raises:
        UsageError, DataError: the run could only be continued with another order of batches.
    """
    saved = Fingerprint(**document["fingerprint"])
    if saved.seed != fingerprint.seed or saved.micro_batches != fingerprint.micro_batches:
        raise UsageError(
            "seed and batch.micro_batches can't change when a run is resumed: the checkpoint has "
            f"{saved.seed} and {saved.micro_batches}, "
            f"the config {fingerprint.seed} and {fingerprint.micro_batches}"
        )
    if saved.data != fingerprint.data:
        raise DataError(
            "the training split is not the one the checkpoint was made with (other ids or "
            "durations); restore it or start a new run"
        )
    values = dict(document["progress"])
    return Progress(**{**values, "position": Position(**values["position"])})
