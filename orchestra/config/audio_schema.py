"""The tables `data`, `augment` and `cache`: which audio, changed how, kept how. Imported through
`schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from orchestra.config.table import LabelChange, NonNegativeFloat, NonNegativeInt, Probability, Table


def _is_manifest(path: Path) -> Path:
    if path.suffix != ".jsonl":
        raise ValueError("must be a manifest, FOLDER/SPLIT.jsonl")
    return path


ManifestPath = Annotated[Path, AfterValidator(_is_manifest)]


class DataConfig(Table):
    """Where the manifests are and which splits are used."""

    root: Path | None = None
    """The corpus."""
    manifests: Path | None = None
    """Folder of <split>.jsonl files, as `orchestra data prepare` writes them."""
    prepare: str | None = None
    """The command that makes them, told where they are missing; `{root}`, `{manifests}` filled."""
    train: str = "train"
    """A split; "a+b" is the manifests a and b as one split, here and wherever a split is named."""
    valid: str = "dev"
    valid_utterances: PositiveInt | None = None
    """Validate on so many utterances, drawn by the seed; at the end the best checkpoint is
    evaluated on the whole split."""
    test: list[str] = ["test"]
    """Splits evaluated at the end of the run with the best checkpoint."""
    workers: NonNegativeInt = 2
    """Loader processes per rank; 0 reads in the training process."""
    silent: Literal["refuse", "report"] = "report"
    """An utterance below -90 dB of full scale ends the run, or is used and told."""


class NoiseConfig(Table):
    """Recordings that are added to the speech."""

    manifest: ManifestPath
    """A .jsonl file; of each line path, offset_s and duration_s count."""
    snr_db: tuple[float, float] = (5.0, 20.0)
    """Lowest and highest ratio of speech to noise, drawn evenly in dB."""
    probability: Probability = 1.0
    """Share of the utterances that get some."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError("snr_db is [lowest, highest]; swap them")
        return self


class RirConfig(Table):
    """Rooms that the speech is put into, as impulse responses."""

    manifest: ManifestPath
    """A .jsonl file; of each line path, offset_s and duration_s count."""
    probability: Probability = 1.0


class SpeedConfig(Table):
    """Speech played faster or slower, pitch included (Ko et al., Interspeech 2015)."""

    factors: list[Annotated[float, Field(ge=0.5, le=2)]] = [0.9, 1.0, 1.1]
    """One of them is drawn; 1.1 makes an utterance shorter by 1 / 1.1."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if not self.factors:
            raise ValueError("factors is empty; 1.0 is the speed as it is")
        return self


class AugmentConfig(Table):
    """What happens to the audio in training, and there alone; keyed by (seed, epoch, id)."""

    speed: SpeedConfig | None = None
    rir: RirConfig | None = None
    noise: NoiseConfig | None = None
    crop_s: NonNegativeFloat = 0.0
    """Train on a random part of so many seconds of what is longer; 0 leaves it whole."""

    def is_on(self) -> bool:
        """Whether any part is configured."""
        return bool(self.speed or self.rir or self.noise or self.crop_s)

    def manifests(self) -> dict[str, Path]:
        """Those that it reads, by the key of their table."""
        tables = {"augment.noise": self.noise, "augment.rir": self.rir}
        return {key: table.manifest for key, table in tables.items() if table is not None}

    def changes(self) -> dict[LabelChange, str]:
        """What may make labels untrue, with the key that asks for it."""
        changes: dict[LabelChange, str] = {}
        if self.speed is not None:
            changes["speed"] = "augment.speed"
        if self.crop_s:
            changes["crop"] = "augment.crop_s"
        return changes

    def longest_s(self, duration_s: float) -> float:
        """The most that is ever made of an utterance of so many seconds."""
        slowest = min(self.speed.factors) if self.speed else 1.0
        made_s = duration_s / slowest
        return min(made_s, self.crop_s) if self.crop_s else made_s


class CacheConfig(Table):
    """Hidden states of a frozen upstream, kept on disk so that they are computed once."""

    features: bool = False
    """Store them, rounded to float16; later epochs and other runs read them instead of audio."""
    layers: list[int] | None = None
    """Layers (Python indexing) that are stored, and that the learnt sum then sums; default: all,
    or the one of upstream.layers."""
    folder: Path | None = None
    """Default: `.features` in the folder of all runs, which they share."""
    max_gb: PositiveFloat = 100.0
    """GiB that the folder may hold, whoever filled it: a run that needs more is refused before it
    starts, and at the limit nothing more is stored."""
