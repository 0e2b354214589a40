"""Asks the ranks of a hanging attempt for their Python stacks (see wire/stacks.py), bounded.

Sends signals to ranks that were verified, and to those alone that expect this one: it would be the
death of any other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestra.wire.folders import AttemptFolder
from orchestra.wire.heartbeat import Beat
from orchestra.wire.identity import start_ticks
from orchestra.wire.stacks import STACKS_SIGNAL

_LOOK_S = 0.02
_QUIET_S = 0.3  # a file that has grown and stays so for this time is whole


def dump(ranks: Sequence[Beat], folder: AttemptFolder, wait_s: float) -> str:
    """Have every rank write its stacks into the attempt's logs; a sentence on what came of it.

    A stopped one is continued for it: it is to be killed anyway. Returns within `wait_s`.
    """
    files = {beat.rank: folder.rank_stacks(beat.rank) for beat in ranks}
    before = {rank: _size(path) for rank, path in files.items()}
    asked = [beat.rank for beat in ranks if _ask(beat)]
    _wait_until_written({files[rank]: before[rank] for rank in asked}, wait_s)
    told = [rank for rank in asked if _size(files[rank]) > before[rank]]
    silent = [beat.rank for beat in ranks if beat.rank not in told]
    parts = [f"stacks of {_named(told)} are in {folder.logs}"] if told else []
    parts += [f"{_named(silent)} wrote no stacks"] if silent else []
    return "; ".join(parts)


def tidy(folder: AttemptFolder) -> None:
    """Remove the files that ranks opened and never had to write to."""
    for path in folder.logs.glob("rank*.stacks"):
        with contextlib.suppress(OSError):
            if path.stat().st_size == 0:
                path.unlink()


def _ask(beat: Beat) -> bool:
    """Send the signal; whether there was a rank to get it."""
    with _verified(beat) as pidfd:
        if pidfd is None or not _expects_signal(beat.pid):
            return False
        try:
            signal.pidfd_send_signal(pidfd, STACKS_SIGNAL)
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        except ProcessLookupError:
            return False
        return True


@contextlib.contextmanager
def _verified(beat: Beat) -> Iterator[int | None]:
    """A pidfd of the process that wrote the page; None if it is gone."""
    try:
        pidfd = os.pidfd_open(beat.pid)
    except (ProcessLookupError, ValueError):
        yield None
        return
    try:
        yield pidfd if start_ticks(beat.pid) == beat.start_ticks else None
    finally:
        os.close(pidfd)


def _expects_signal(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (STACKS_SIGNAL - 1) & 1)


def _wait_until_written(before: dict[Path, int], wait_s: float) -> None:
    """Until all have grown, and none any more."""
    deadline = time.monotonic() + wait_s
    sizes, changed_at = before, time.monotonic()
    while (now := time.monotonic()) < deadline:
        found = {path: _size(path) for path in before}
        if found != sizes:
            sizes, changed_at = found, now
        all_grown = all(sizes[path] > size for path, size in before.items())
        if all_grown and now - changed_at >= _QUIET_S:
            return
        time.sleep(_LOOK_S)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _named(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
