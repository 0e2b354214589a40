"""The heartbeat page: one small tmpfs file per rank, written by the training thread itself.

A side thread would prove nothing: it beats on while the training thread hangs. The writer packs
one struct into a shared mapping (no system call). The sequence number is 0 while it does and is
written last, so that a reader can tell a whole beat from a torn one.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from orchestra.wire.errors import OrchestraError
from orchestra.wire.identity import start_ticks

VERSION = 1
_MAGIC = b"ORCH"
# magic, version, rank, pid, start ticks | beat: monotonic ns, step, phase, promise ms | sequence
_HEAD = struct.Struct("<4sIIIQ")
_BEAT = struct.Struct("<QQII")
_SEQUENCE = struct.Struct("<Q")
_BEAT_AT = _HEAD.size
_SEQUENCE_AT = _BEAT_AT + _BEAT.size
_PAGE_BYTES = 4096
LONG_WRITE_S = 120.0
"""What a rank promises that writes a model to the disk, or waits for such a write."""
_READS = 4  # a beat takes under a microsecond; hardly a second reading ever differs


class Phase(IntEnum):
    """What a rank is doing; each has its own deadline."""

    IMPORT = 0
    INIT = 1
    DATA = 2
    FORWARD = 3
    BACKWARD = 4
    OPTIMIZER = 5
    EVALUATION = 6
    CHECKPOINT = 7
    DONE = 8


@dataclass(frozen=True)
class Beat:
    """One reading of a page."""

    rank: int
    pid: int
    start_ticks: int
    sequence: int
    monotonic_ns: int
    step: int
    phase: Phase
    promise_s: float  # the rank expects to beat again within this time; 0: no promise
    samples: tuple[str, ...] = ()


def pages_folder(tag: str) -> Path:
    """Where the pages of the attempt with this tag lie (tmpfs, this user's)."""
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path("/tmp")
    return base / f"orchestra-{os.getuid()}" / tag


class Heartbeat:
    """A rank's own page.

    Raises:
        OrchestraError: somebody else made this user's folder.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        _make_private(folder.parent)
        _make_private(folder)
        self._path = folder / f"rank{rank}"
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            os.ftruncate(fd, _PAGE_BYTES)
            self._page = mmap.mmap(fd, _PAGE_BYTES)
        finally:
            os.close(fd)
        pid = os.getpid()
        _HEAD.pack_into(self._page, 0, _MAGIC, VERSION, rank, pid, start_ticks(pid) or 0)
        self._sequence = 0
        self.beat(0, Phase.IMPORT)

    @property
    def folder(self) -> Path:
        """Where the pages of all ranks lie; what else is left there goes with them."""
        return self._path.parent

    def beat(self, step: int, phase: Phase, promise_s: float = 0.0) -> None:
        """Say that this thread is alive, where it is, and when it means to say so again."""
        self._sequence += 1
        _SEQUENCE.pack_into(self._page, _SEQUENCE_AT, 0)
        _BEAT.pack_into(
            self._page, _BEAT_AT, time.monotonic_ns(), step, phase, int(promise_s * 1000)
        )
        _SEQUENCE.pack_into(self._page, _SEQUENCE_AT, self._sequence)

    def remove(self) -> None:
        """Leave no page behind, for a rank that no supervisor cleans up after."""
        with contextlib.suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()  # by the last of the ranks


def read_beats(folder: Path) -> list[Beat]:
    """All pages of an attempt, by rank.

    A page that is not whole yet, of another version or another user's is left out.
    """
    try:
        pages = [_read_page(path) for path in folder.iterdir()]
    except OSError:
        return []
    beats = [_beat(page) for page in pages if page is not None]
    return sorted((beat for beat in beats if beat is not None), key=lambda beat: beat.rank)


def _make_private(folder: Path) -> None:
    """A folder that only this user can enter; its name is known to all, so it may be a trap."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise OrchestraError(
                f"{folder} is not a folder of yours: have it removed, heartbeats lie there"
            ) from None
        if found.st_mode & 0o077:
            folder.chmod(0o700)


def _read_page(path: Path) -> bytes | None:
    """A page that read the same twice."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid != os.getuid():
            return None
        page = os.pread(fd, _PAGE_BYTES, 0)
        for _ in range(_READS):
            before, page = page, os.pread(fd, _PAGE_BYTES, 0)
            if page == before:
                return page
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _beat(page: bytes) -> Beat | None:
    if len(page) < _PAGE_BYTES:
        return None
    magic, version, rank, pid, ticks = _HEAD.unpack_from(page, 0)
    monotonic_ns, step, phase, promise_ms = _BEAT.unpack_from(page, _BEAT_AT)
    (sequence,) = _SEQUENCE.unpack_from(page, _SEQUENCE_AT)
    if (magic, version) != (_MAGIC, VERSION) or sequence == 0 or phase not in set(Phase):
        return None
    return Beat(rank, pid, ticks, sequence, monotonic_ns, step, Phase(phase), promise_ms / 1000)
