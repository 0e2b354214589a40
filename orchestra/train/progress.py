"""Where a run stands: everything a checkpoint holds that is no tensor."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestra.config.schema import RunConfig
from orchestra.data.batches import Position
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.manifest import Utterance


@dataclass(frozen=True)
class Validation:
    """One validation that ended, on the same utterances as all others of the run."""

    step: int
    epochs: float
    """Epochs done by then."""
    metrics: dict[str, float]


@dataclass
class Progress:
    """The one mutable state of the loop, equal on all ranks."""

    step: int = 0
    """Optimizer steps taken (skipped ones count)."""
    position: Position = field(default_factory=Position)
    validations: list[Validation] = field(default_factory=list)
    """All so far; the best checkpoint and the patience follow from them."""
    skipped: int = 0
    """Steps that were not applied because something was not finite, in the whole run."""
    skipped_in_a_row: int = 0
    overflows: int = 0
    """Steps that were not applied because the loss scale of fp16 was too high."""
    loss_scale: dict[str, float | int] = field(default_factory=dict)
    """State of the loss scale; empty without fp16."""
    elapsed_s: float = 0.0
    """Time that the run took so far; counted only where train.max_hours limits it."""

    def add_validation(self, epochs: float, metrics: dict[str, float]) -> None:
        """The step where the run stands was validated, after so many epochs."""
        self.validations.append(Validation(self.step, epochs, metrics))

    def is_validated(self) -> bool:
        """Whether the step where the run stands was validated; a stop may come in between."""
        return bool(self.validations) and self.validations[-1].step == self.step

    def score(self, metric: str) -> float | None:
        """Of this step's validation; None if there was none or the score is not finite."""
        if not self.is_validated():
            return None
        value = self.validations[-1].metrics[metric]
        return value if math.isfinite(value) else None

    def scores(self, metric: str) -> list[float]:
        """Of all validations, oldest first."""
        return [validation.metrics[metric] for validation in self.validations]


@dataclass(frozen=True)
class Fingerprint:
    """What weights, positions and scores depend on: they mean nothing under another."""

    seed: int
    micro_batches: int
    train: str
    """sha256 of what the manifest says of the training utterances, but for where they lie."""
    valid: str
    """The same of those that are validated on."""
    augmentation: str = ""
    """The same of noises and impulse responses; empty where there are none."""

    @classmethod
    def of(
        cls,
        config: RunConfig,
        train: Sequence[Utterance],
        valid: Sequence[Utterance],
        augmentation: Sequence[Utterance] = (),
    ) -> Fingerprint:
        """Of a run's config, its utterances and what they are augmented with."""
        assert config.batch.micro_batches is not None
        return cls(
            config.seed,
            config.batch.micro_batches,
            _sha256(train),
            _sha256(valid),
            _sha256(augmentation) if augmentation else "",
        )


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
    for name in ("train", "valid"):
        if getattr(saved, name) != getattr(fingerprint, name):
            raise DataError(
                f"restore the manifest of data.{name} or start a new run: that split is not what "
                "it was when the checkpoint was made (other utterances, durations or transcripts)"
            )
    if saved.augmentation != fingerprint.augmentation:
        raise DataError(
            "restore the manifests of augment.noise and augment.rir or start a new run: they are "
            "not what they were when the checkpoint was made"
        )
    values = dict(document["progress"])
    values["position"] = Position(**values["position"])
    values["validations"] = [Validation(**validation) for validation in values["validations"]]
    return Progress(**values)


def _sha256(utterances: Sequence[Utterance]) -> str:
    digest = hashlib.sha256()
    for one in utterances:
        fields = {key: value for key, value in one.fields.items() if key != "path"}
        content = [one.id, one.offset_s, one.duration_s, fields]
        # A task that makes its own utterances may have anything in them.
        line = json.dumps(content, sort_keys=True, default=lambda value: type(value).__name__)
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
