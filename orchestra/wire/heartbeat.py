"""The heartbeat page: one small tmpfs file per rank, written by the training thread itself.

A side thread would prove nothing: it beats on while the training thread hangs. The writer stores
64-bit words into a shared mapping (no system call). The sequence number is 0 while it does and is
written last, so that a reader can tell a whole beat from a torn one. Behind it stand the ids of
the utterances at work, so that they are known of a rank that was killed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from orchestra.wire.errors import DiskFullError, OrchestraError
from orchestra.wire.files import DISK_FULL
from orchestra.wire.identity import start_ticks

VERSION = 1
_MAGIC = b"ORCH"
# magic, version, rank, pid, start ticks | beat: monotonic ns, step, phase, promise ms | sequence
_HEAD = struct.Struct("<4sIIIQ")
_BEAT = struct.Struct("<QQII")
_SEQUENCE = struct.Struct("<Q")
_BEAT_AT = _HEAD.size
_SEQUENCE_AT = _BEAT_AT + _BEAT.size
# samples: bytes, then ids in UTF-8 with zeros between them; older pages have zeros here
_SAMPLES = struct.Struct("<Q")
_SAMPLES_AT = _SEQUENCE_AT + _SEQUENCE.size
_IDS_AT = _SAMPLES_AT + _SAMPLES.size
_IDS_BYTES = 1024
_MORE = b"..."
_PAGE_BYTES = 4096
# The writer's view: 64-bit words, as all Linux machines with a GPU have them (little-endian).
_BEAT_WORD, _SEQUENCE_WORD, _SAMPLES_WORD = _BEAT_AT // 8, _SEQUENCE_AT // 8, _SAMPLES_AT // 8
LONG_WRITE_S = 120.0
"""What a rank promises that writes a model to the disk, or waits for such a write."""
SCORING_S = 1800.0
"""What rank 0 promises that scores a split: a task may search or compare all pairs."""
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


_PHASES = frozenset(Phase)


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
    samples: tuple[str, ...] = ()  # ids of the utterances at work; "..." stands for more of them


def pages_folder(tag: str) -> Path:
    """Where the pages of the attempt with this tag lie (tmpfs, this user's)."""
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path("/tmp")
    return base / f"orchestra-{os.getuid()}" / tag


def make_private(folder: Path) -> None:
    """Make a `pages_folder`, for this user alone (OrchestraError: somebody else made it)."""
    _make_private(folder.parent)
    _make_private(folder)


class Heartbeat:
    """A rank's own page.

    Raises:
        OrchestraError: somebody else made this user's folder.
        DiskFullError: there is no room for the page.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / f"rank{rank}"
        with _room_in(folder):
            make_private(folder)
            page = _new_page(self._path)
        pid = os.getpid()
        _HEAD.pack_into(page, 0, _MAGIC, VERSION, rank, pid, start_ticks(pid) or 0)
        self._bytes = memoryview(page)
        self._words = self._bytes.cast("Q")  # half the cost of packing a struct
        self._sequence = 0
        self.beat(0, Phase.IMPORT)

    @property
    def folder(self) -> Path:
        """Where the pages of all ranks lie; what else is left there goes with them."""
        return self._path.parent

    def beat(self, step: int, phase: Phase, promise_s: float = 0.0) -> None:
        """Say that this thread is alive, where it is, and when it means to say so again."""
        words = self._words
        self._sequence = sequence = self._sequence + 1
        words[_SEQUENCE_WORD] = 0
        words[_BEAT_WORD] = time.monotonic_ns()
        words[_BEAT_WORD + 1] = step
        words[_BEAT_WORD + 2] = phase | int(promise_s * 1000) << 32 if promise_s else phase
        words[_SEQUENCE_WORD] = sequence

    def note_samples(self, ids: Sequence[str]) -> None:
        """Say which utterances are at work from now on; no beat."""
        data = "\0".join(ids).encode(errors="replace")
        if len(data) > _IDS_BYTES:
            data = _whole_ids(data)
        self._words[_SEQUENCE_WORD] = 0
        self._words[_SAMPLES_WORD] = len(data)
        self._bytes[_IDS_AT : _IDS_AT + len(data)] = data
        self._words[_SEQUENCE_WORD] = self._sequence

    def remove(self) -> None:
        """Leave no page behind, for a rank that no supervisor cleans up after."""
        with contextlib.suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()  # by the last of the ranks


class Pages:
    """The pages of one attempt, to be read again and again; close it at the end.

    A page that was whole once stays open: logind unlinks what a user has in /dev/shm at the last
    logout (RemoveIPC), and its rank beats on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, int] = {}  # file name -> descriptor

    def read(self) -> list[Beat]:
        """By rank; a page that is torn, of another version or another user's is left out."""
        beats = [_beat(_read_page(fd)) for fd in self._open.values()]
        beats += [self._meet(path) for path in self._unknown()]
        return sorted((beat for beat in beats if beat is not None), key=lambda beat: beat.rank)

    def close(self) -> None:
        """Nothing is read any more."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _unknown(self) -> list[Path]:
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - a Path for each costs more
            return [self._folder / name for name in names if name not in self._open]
        except OSError:
            return []

    def _meet(self, path: Path) -> Beat | None:
        """Keep it open if it is a page."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        beat = _beat(_read_page(fd))
        if beat is None:
            os.close(fd)
        else:
            self._open[path.name] = fd
        return beat


def read_beats(folder: Path) -> list[Beat]:
    """All pages of an attempt, once, as `Pages` reads them."""
    with contextlib.closing(Pages(folder)) as pages:
        return pages.read()


@contextlib.contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    """Tell what to do where there is none."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DiskFullError(
            f"no room for a heartbeat in {folder} ({error.strerror}): remove what fills that file "
            "system, or start the container with a larger --shm-size"
        ) from error


def _new_page(path: Path) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Have the memory now: the first write to a mapping without it ends by SIGBUS.
        os.posix_fallocate(fd, 0, _PAGE_BYTES)
        return mmap.mmap(fd, _PAGE_BYTES)
    finally:
        os.close(fd)


def _whole_ids(data: bytes) -> bytes:
    """As many as fit, and a sign that there are more."""
    room = _IDS_BYTES - len(_MORE) - 1
    head = data[: room + 1].rpartition(b"\0")[0]
    return head + b"\0" + _MORE if head else _MORE


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


def _read_page(fd: int) -> bytes:
    """A page that read the same twice; empty if none did, or if it is another user's."""
    try:
        if os.fstat(fd).st_uid != os.getuid():
            return b""
        page = os.pread(fd, _PAGE_BYTES, 0)
        for _ in range(_READS):
            before, page = page, os.pread(fd, _PAGE_BYTES, 0)
            if page == before:
                return page
    except OSError:
        pass
    return b""


def _beat(page: bytes) -> Beat | None:
    if len(page) < _PAGE_BYTES:
        return None
    magic, version, rank, pid, ticks = _HEAD.unpack_from(page, 0)
    monotonic_ns, step, phase, promise_ms = _BEAT.unpack_from(page, _BEAT_AT)
    (sequence,) = _SEQUENCE.unpack_from(page, _SEQUENCE_AT)
    if (magic, version) != (_MAGIC, VERSION) or sequence == 0 or phase not in _PHASES:
        return None
    return Beat(
        rank,
        pid,
        ticks,
        sequence,
        monotonic_ns,
        step,
        Phase(phase),
        promise_ms / 1000,
        _read_samples(page),
    )


def _read_samples(page: bytes) -> tuple[str, ...]:
    (size,) = _SAMPLES.unpack_from(page, _SAMPLES_AT)
    if not 0 < size <= _IDS_BYTES:
        return ()
    return tuple(page[_IDS_AT : _IDS_AT + size].decode(errors="replace").split("\0"))
