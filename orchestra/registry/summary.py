"""What the registry's summary row takes from a run's records; for the supervisor and a rebuild.

Reads records, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from orchestra.wire.folders import Job
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
