"""The right to a GPU: one flock per device in a machine-wide folder, freed by the kernel.

Works between users and workspaces without a daemon. The lock is the lease; what is written in
the file is for display and is trusted by nobody. Lock files are never unlinked: a second file of
the same name would be a second lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from orchestra.gpu.pool import taken_because, visible, wanted
from orchestra.gpu.probe import Device, Prober
from orchestra.wire.errors import ConflictError, OrchestraError

VERSION = 1
#: Overrides the machine-wide folder; all users of a machine must agree on it.
FOLDER = "ORCHESTRA_LEASES"
# Cleaners of /tmp may remove a lock file that is held, and with it the lease.
_HOMES = (Path("/run/lock"), Path("/tmp"))
_NOTE_BYTES = 4096
_TRIES = 5
_PAUSE_S = 0.01


@dataclass(frozen=True)
class Holder:
    """Who says to hold a lease."""

    run_id: str
    user: str
    pid: int
    since: float  # Unix time

    def __str__(self) -> str:
        return f"leased by run {self.run_id} of user {self.user}"


class Leases:
    """The leases of one process; closing it, or its death, frees them all."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or _machine_folder(_HOMES)
        self._held: dict[str, int] = {}

    def __enter__(self) -> Leases:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self, count: int, wanted_ids: Sequence[str], run_id: str) -> tuple[Device, ...]:
        """Lease `count` free devices (of `wanted_ids`, by index or UUID, if there are any).

        All or none. A device is granted if its lock is won and after that NVML shows nobody on it.

        Raises:
            ConflictError: not enough of them are free; the message says why for each.
            NotFoundError: an id names no device.
        """
        with Prober() as prober:
            candidates = _pool(prober, wanted_ids)
            refused: dict[str, str] = {}
            granted: list[Device] = []
            for device in candidates:
                if len(granted) == count:
                    break
                reason = self._take(device, prober, run_id, named=bool(wanted_ids))
                if reason is None:
                    granted.append(device)
                else:
                    refused[f"GPU {device.index}"] = reason
        if len(granted) < count:
            for device in granted:
                self._drop(device.uuid)
            why = "".join(f"; {name}: {reason}" for name, reason in refused.items())
            raise ConflictError(
                f"{count} {'GPU is' if count == 1 else 'GPUs are'} wanted, "
                f"{len(granted)} of {len(candidates)} can be had{why}"
            )
        return tuple(granted)

    def release(self) -> None:
        """Give all leases back."""
        for uuid in list(self._held):
            self._drop(uuid)

    def holders(self) -> dict[str, Holder]:
        """Who holds which device (by UUID) now, on the whole machine."""
        found: dict[str, Holder] = {}
        if not self._folder.is_dir():
            return found
        for path in sorted(self._folder.glob("*.lock")):
            with contextlib.suppress(OSError), _opened(path) as fd:
                if not _try_lock(fd, fcntl.LOCK_SH, tries=1):
                    found[path.stem] = _read_note(fd)
        return found

    def _take(self, device: Device, prober: Prober, run_id: str, *, named: bool) -> str | None:
        """Lease one device; the reason if that can't be."""
        if device.uuid in self._held:
            return "already leased by this run"
        reason = taken_because(device, named=named)
        if reason is not None:
            # A lease explains a busy device better than its pids do.
            holder = self.holders().get(device.uuid)
            return reason if holder is None else str(holder)
        fd = self._lock(device.uuid)
        if fd is None:
            holder = self.holders().get(device.uuid)
            return "leased by another run" if holder is None else str(holder)
        # Look again: the device may have been used and freed between the reading and the lock.
        now = [item for item in prober.read().devices if item.uuid == device.uuid]
        reason = taken_because(now[0], named=named) if now else "it vanished from NVML"
        if reason is not None:
            os.close(fd)
            return reason
        self._held[device.uuid] = fd
        _write_note(self._path(device.uuid), run_id)
        return None

    def _drop(self, uuid: str) -> None:
        os.close(self._held.pop(uuid))

    def _path(self, uuid: str) -> Path:
        return self._folder / f"{uuid.replace('/', '_')}.lock"

    def _lock(self, uuid: str) -> int | None:
        """The locked file, or None if somebody else has it."""
        _make_shared_folder(self._folder)
        path = self._path(uuid)
        while True:
            try:
                fd = _create_or_open(path)
            except OSError as error:
                raise OrchestraError(f"cannot open the lease {path}: {error.strerror}") from error
            if not _try_lock(fd, fcntl.LOCK_EX, tries=_TRIES):
                os.close(fd)
                return None
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(fd).st_ino:
                    return fd
            # Somebody removed or replaced the file while we waited: lock the one that counts.
            os.close(fd)


def _pool(prober: Prober, wanted_ids: Sequence[str]) -> list[Device]:
    reading = prober.read()
    if reading.error is not None:
        raise ConflictError(f"no GPU can be leased: {reading.error}")
    pool = visible(reading.devices, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return wanted(pool, wanted_ids) if wanted_ids else pool


def _machine_folder(homes: Sequence[Path]) -> Path:
    """The folder all users of the machine agree on: in the first home open to all, or the last."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    return next((home for home in homes if _is_open_to_all(home)), homes[-1]) / "orchestra-leases"


def _is_open_to_all(folder: Path) -> bool:
    """Like /tmp: everybody may add files, nobody may remove another's."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    wanted_bits = stat.S_ISVTX | stat.S_IWOTH | stat.S_IXOTH
    return stat.S_ISDIR(mode) and mode & wanted_bits == wanted_bits


def _make_shared_folder(folder: Path) -> None:
    """All users may add files, nobody may remove another's."""
    try:
        folder.mkdir(mode=0o1777, parents=True)
        folder.chmod(0o1777)  # mkdir's mode went through the umask
    except FileExistsError:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise OrchestraError(f"{folder} is no folder; leases can't be kept there") from None
    except OSError as error:
        raise OrchestraError(f"cannot make {folder}: {error.strerror}") from error


def _create_or_open(path: Path) -> int:
    """A descriptor that can be locked.

    The kernel's protected_regular refuses O_CREAT on another user's file in a sticky folder, so a
    file is either made exclusively or opened without O_CREAT; reading is enough for flock.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, flags)
    os.fchmod(fd, 0o666)
    return fd


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _try_lock(
    fd: int, kind: int, *, tries: int, pause: Callable[[float], None] = time.sleep
) -> bool:
    """Lock without waiting for a holder; a few tries outlast a reader's glance."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if left:
                pause(_PAUSE_S)
    return False


def _write_note(path: Path, run_id: str) -> None:
    """Say who holds it. Another user's file may refuse: the lock counts, not the note."""
    holder = Holder(run_id, _user(), os.getpid(), time.time())
    note = json.dumps({"version": VERSION, **asdict(holder)}).encode()
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.write(fd, note)
        finally:
            os.close(fd)


def _read_note(fd: int) -> Holder:
    """The note, which anyone may have written: only its shape is believed."""
    try:
        note = json.loads(os.pread(fd, _NOTE_BYTES, 0))
        return Holder(
            str(note["run_id"])[:64],
            str(note["user"])[:64],
            int(note["pid"]),
            float(note["since"]),
        )
    except (ValueError, KeyError, TypeError):
        return Holder("?", "?", 0, 0.0)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
