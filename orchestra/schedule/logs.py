"""The logs of a job's attempts: which files, and reading on as they grow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.wire.folders import AttemptFolder, Job

_CHUNK = 1 << 16
_RANKS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_MOST_RANKS = 9999


SUPERVISOR = "supervisor"
LAUNCHER = "launcher"


@dataclass
class LogFile:
    """One growing file. `name` is what its lines are prefixed with."""

    name: str
    path: Path
    attempt: int = 0
    position: int = field(default=0)

    @property
    def rank(self) -> int | None:
        """None for the launcher's and the supervisor's."""
        return _rank(self.path) if self.name.startswith("rank") else None

    def new_lines(self, *, to_the_end: bool = False) -> Iterator[str]:
        """Whole lines written since the last call; `to_the_end`: a torn last one too."""
        for line in self.new_bytes(to_the_end=to_the_end):
            yield line.decode(errors="replace").rstrip("\r\n")

    def new_bytes(self, *, to_the_end: bool = False) -> Iterator[bytes]:
        """The same as they were written, line breaks and all."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            if os.fstat(file.fileno()).st_size < self.position:
                self.position = 0  # it was cut: what is there now is new
            file.seek(self.position)
            for line in file:
                if not line.endswith(b"\n") and not to_the_end:
                    return
                self.position += len(line)
                yield line

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


def log_files(job: Job, *, attempt: int | None, ranks: Sequence[int] | None) -> list[LogFile]:
    """The files of one attempt (default: the newest): all ranks and the launcher, or some ranks.

    Raises:
        NotFoundError: no such attempt or rank.
    """
    folder = _attempt(job, attempt)
    paths = attempt_logs(folder)
    names = list(paths) if ranks is None else [f"rank{rank}" for rank in ranks]
    for name in names:
        if name != LAUNCHER and name not in paths:
            there = ", ".join(each[4:] for each in paths if each != LAUNCHER) or "none yet"
            raise NotFoundError(
                f"attempt {folder.number} has no log of rank {name[4:]}; ranks with one: {there}"
            )
    return [LogFile(name, paths[name], folder.number) for name in names]


def attempt_logs(folder: AttemptFolder) -> dict[str, Path]:
    """The logs of one attempt by name: the launcher's, whether it is there yet or not, then those
    of the ranks."""
    ranks = {f"rank{_rank(path)}": path for path in _rank_logs(folder)}
    return {LAUNCHER: folder.agent_log, **ranks}


def parse_ranks(text: str) -> list[int]:
    """`3`, `0-3` or `0,2-3` (UsageError)."""
    ranks: set[int] = set()
    for part in text.split(","):
        found = _RANKS.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last or last > _MOST_RANKS:
            raise UsageError(f"--rank {text!r}: give a rank, or some, such as 3, 0-3 or 0,2-3")
        ranks.update(range(first, last + 1))
    return sorted(ranks)


def newest_attempt(job: Job) -> int:
    """Its number; 0 before the first."""
    attempts = job.attempts()
    return attempts[-1].number if attempts else 0


def previous_attempt(job: Job) -> int:
    """The number of the one before the newest (NotFoundError)."""
    attempts = job.attempts()
    if len(attempts) < 2:
        raise NotFoundError(
            f"run {job.run.id} has no attempt before its {'newest' if attempts else 'first'}"
        )
    return attempts[-2].number


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
