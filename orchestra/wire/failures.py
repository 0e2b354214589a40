"""failures.json: how each rank of an attempt failed, written by the agent, read by the supervisor.

torchrun itself exits with 1 for everything; only the agent sees its children's wait statuses.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from orchestra.wire.files import read_json, reading, write_json

VERSION = 1


@dataclass(frozen=True)
class RankFailure:
    """One rank's death. `signal` is 0 unless a signal killed it; `exit_code` is then 0."""

    rank: int
    pid: int
    exit_code: int
    signal: int
    time_s: float  # Unix time at which the agent saw it
    message: str  # last exception, or what the agent says


def write_failures(path: Path, failures: list[RankFailure]) -> None:
    """First failure first."""
    write_json(path, {"version": VERSION, "failures": [asdict(failure) for failure in failures]})


def read_failures(path: Path) -> list[RankFailure]:
    """The recorded failures, first failure first; empty where the agent could not write any.

    Raises:
        OrchestraError: the file is broken.
    """
    try:
        document = read_json(path)
    except FileNotFoundError:
        return []
    known = [item.name for item in fields(RankFailure)]
    with reading(path):
        return [RankFailure(**{key: item[key] for key in known}) for item in document["failures"]]
