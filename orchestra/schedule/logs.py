"""The logs of a run's newest attempt: which files, and reading on as they grow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestra.wire.errors import NotFoundError
from orchestra.wire.folders import AttemptFolder, Job

_CHUNK = 1 << 16


@dataclass
class LogFile:
    """One growing file. `name` is what its lines are prefixed with."""

    name: str
    path: Path
    position: int = field(default=0)

    def new_lines(self, *, to_the_end: bool = False) -> Iterator[str]:
        """Whole lines written since the last call; `to_the_end`: a torn last one too."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.position)
            for line in file:
                if not line.endswith(b"\n") and not to_the_end:
                    return
                self.position += len(line)
                yield line.decode(errors="replace").rstrip("\r\n")

    def skip_to_last(self, count: int) -> None:
        """Start at the last `count` lines, without reading the whole file."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            position = file.seek(0, 2)
            tail = b""
            while position > 0 and tail.count(b"\n") <= count:
                step = min(_CHUNK, position)
                position -= step
                file.seek(position)
                tail = file.read(step) + tail
            lines = tail.splitlines(keepends=True)
            self.position = position + sum(map(len, lines[: max(0, len(lines) - count)]))


def log_files(job: Job, *, attempt: int | None, rank: int | None) -> list[LogFile]:
    """The files of one attempt (default: the newest): all ranks and the launcher, or one rank.

    Raises:
        NotFoundError: no such attempt or rank.
    """
    folder = _attempt(job, attempt)
    if rank is not None:
        path = folder.rank_log(rank)
        if not path.is_file():
            there = ", ".join(str(_rank(item)) for item in _rank_logs(folder)) or "none yet"
            raise NotFoundError(
                f"attempt {folder.number} has no log of rank {rank}; ranks with one: {there}"
            )
        return [LogFile(f"rank{rank}", path)]
    return [
        LogFile("launcher", folder.agent_log),
        *(LogFile(f"rank{_rank(path)}", path) for path in _rank_logs(folder)),
    ]


def newest_attempt(job: Job) -> int:
    """Its number; 0 before the first."""
    attempts = job.attempts()
    return attempts[-1].number if attempts else 0


def _attempt(job: Job, number: int | None) -> AttemptFolder:
    attempts = job.attempts()
    if not attempts:
        raise NotFoundError(f"run {job.run.id} has not been started yet; it has no logs")
    if number is None:
        return attempts[-1]
    for folder in attempts:
        if folder.number == number:
            return folder
    raise NotFoundError(f"run {job.run.id} has attempts 1 to {attempts[-1].number}, not {number}")


def _rank_logs(folder: AttemptFolder) -> list[Path]:
    return sorted(folder.logs.glob("rank*.log"), key=_rank)


def _rank(path: Path) -> int:
    digits = path.stem.removeprefix("rank")
    return int(digits) if digits.isdigit() else -1
