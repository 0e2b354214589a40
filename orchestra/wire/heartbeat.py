"""The heartbeat page: one small tmpfs file per rank, written by the training thread itself.

A side thread would prove nothing: it beats on while the training thread hangs. The writer packs
one struct into a shared mapping (no system call); the sequence number is written last.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

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


def pages_folder(tag: str) -> Path:
    """Where the pages of the attempt with this tag lie (tmpfs, this user's)."""
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path("/tmp")
    return base / f"orchestra-{os.getuid()}" / tag


class Heartbeat:
    """A rank's own page."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(folder / f"rank{rank}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, _PAGE_BYTES)
            self._page = mmap.mmap(fd, _PAGE_BYTES)
        finally:
            os.close(fd)
        pid = os.getpid()
        _HEAD.pack_into(self._page, 0, _MAGIC, VERSION, rank, pid, start_ticks(pid) or 0)
        self._sequence = 0
        self.beat(0, Phase.IMPORT)

    def beat(self, step: int, phase: Phase, promise_s: float = 0.0) -> None:
        """Say that this thread is alive, where it is, and when it means to say so again."""
        self._sequence += 1
        _BEAT.pack_into(
            self._page, _BEAT_AT, time.monotonic_ns(), step, phase, int(promise_s * 1000)
        )
        _SEQUENCE.pack_into(self._page, _SEQUENCE_AT, self._sequence)


def read_beats(folder: Path) -> list[Beat]:
    """All pages of an attempt, by rank; a page that is not whole yet is left out."""
    beats = []
    try:
        paths = list(folder.iterdir())
    except OSError:
        return []
    for path in paths:
        try:
            page = path.read_bytes()
        except OSError:
            continue
        if len(page) < _PAGE_BYTES or page[:4] != _MAGIC:
            continue
        _, _, rank, pid, ticks = _HEAD.unpack_from(page, 0)
        monotonic_ns, step, phase, promise_ms = _BEAT.unpack_from(page, _BEAT_AT)
        (sequence,) = _SEQUENCE.unpack_from(page, _SEQUENCE_AT)
        beats.append(
            Beat(rank, pid, ticks, sequence, monotonic_ns, step, Phase(phase), promise_ms / 1000)
        )
    return sorted(beats, key=lambda beat: beat.rank)
