"""What the registry's summary row takes from a run's records; for the supervisor and a rebuild.

Reads records, writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from math import isfinite

from orchestra.wire.folders import Job, RunFolder
from orchestra.wire.records import Record, read_records

_SHOWN = {  # in `orchestra ls`, by the kind of record that tells it
    "start": ("max_steps",),
    "train": ("loss", "audio_s_per_s", "eta_s"),
    "checkpoint": ("score", "best_score", "metric"),
}


def summary(records: Iterable[Record]) -> dict[str, float | str | None]:
    """Values of the summary columns; of each the newest counts."""
    values: dict[str, float | str | None] = {}
    for record in records:
        found = {name: record.values.get(name) for name in _SHOWN.get(record.kind, ())}
        values |= {name: value for name, value in found.items() if value is not None}
    return values


def records_of(job: Job) -> Iterator[Record]:
    """All that the job's attempts told, oldest first."""
    for attempt in job.attempts():
        with suppress(FileNotFoundError), attempt.records.open("rb") as file:
            yield from read_records(file)


def existing_checkpoints(run: RunFolder) -> list[Record]:
    """The records of the checkpoints that are still there; of one saved again, the last."""
    saved = {
        str(record.values["path"]): record
        for record in records_of(run.job)
        if record.kind == "checkpoint"
    }
    return [record for path, record in saved.items() if (run.path / path).is_dir()]


def best_of(checkpoints: Collection[Record]) -> Record | None:
    """The best scored of a run's existing checkpoints, the newer one if two are as good."""
    sign = better_is(checkpoints)
    scored = [record for record in checkpoints if isfinite(_number(record, "score"))]
    return max(
        scored, key=lambda record: (sign * _number(record, "score"), record.step), default=None
    )


def better_is(checkpoints: Iterable[Record]) -> int:
    """1: more is better; -1: less; 0: each was the best of its time, hence the last one is.

    Only the task knows which, but a checkpoint that was not the best when it was saved tells.
    """
    return next((sign for record in checkpoints if (sign := _better_is(record))), 0)


def _better_is(record: Record) -> int:
    """1: more; -1: less; 0: this record can't tell."""
    score, best = _number(record, "score"), _number(record, "best_score")
    return (best > score) - (best < score)


def _number(record: Record, name: str) -> float:
    value = record.values.get(name)
    return float("nan") if value is None else float(value)
