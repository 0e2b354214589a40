"""One lock file per GPU in a machine-wide folder: where it lies, how it is locked, what it says.

The lock is the lease; the note in the file is for display and is trusted by nobody. Lock files
are never unlinked: a second file of the same name would be a second lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestra.wire.errors import OrchestraError
from orchestra.wire.identity import user_name

VERSION = 1
#: Overrides the machine-wide folder; all users of a machine must agree on it.
FOLDER = "ORCHESTRA_LEASES"
# Cleaners of /tmp may remove a lock file that is held, and with it the lease.
_HOMES = (Path("/run/lock"), Path("/tmp"))
_NOTE_BYTES = 32768  # a path may have 4096 bytes, and JSON may write six for one
_TRIES = 5
_PAUSE_S = 0.01


@dataclass(frozen=True)
class Holder:
    """Who says to hold a lease."""

    run_id: str
    user: str
    pid: int
    since: float  # Unix time
    workspace: str = ""  # path; empty in notes of versions that did not write it

    def __str__(self) -> str:
        return f"leased by run {self.run_id} of user {self.user}"


def machine_folder(homes: Sequence[Path] = _HOMES) -> Path:
    """The folder all users of the machine agree on: in the first home open to all, or the last."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    return next((home for home in homes if _is_open_to_all(home)), homes[-1]) / "orchestra-leases"


def lock_path(folder: Path, uuid: str) -> Path:
    """The lock file of a device."""
    return folder / f"{uuid.replace('/', '_')}.lock"


def lock(path: Path) -> int | None:
    """A descriptor of the locked file, or None if somebody else has it."""
    _make_shared_folder(path.parent)
    while True:
        try:
            fd = _create_or_open(path)
        except OSError as error:
            raise OrchestraError(f"cannot open the lease {path}: {error.strerror}") from error
        if not _try_lock(fd, fcntl.LOCK_EX, tries=_TRIES):
            os.close(fd)
            return None
        if is_file_at(fd, path):
            return fd
        # Somebody removed or replaced the file while we waited: lock the one that counts.
        os.close(fd)


def obstacle(path: Path) -> str:
    """Why no lock can be had at `path`, whoever holds it; empty if there is nothing to say."""
    try:
        if not stat.S_ISDIR(path.parent.lstat().st_mode):
            return f"{path.parent} is no folder; leases can't be kept there"
        with _opened(path):
            return ""
    except FileNotFoundError:  # the lock file is made when it is wanted, and the folder too
        return ""
    except OSError as error:
        return f"cannot open the lease {path}: {error.strerror}"


def relock(fd: int) -> bool:
    """Whether `fd` (an inherited descriptor) holds the lock, as it does if nobody else can."""
    return _try_lock(fd, fcntl.LOCK_EX, tries=_TRIES)


def is_file_at(fd: int, path: Path) -> bool:
    """Whether `fd` is open on the very file that lies at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def holders(folder: Path) -> dict[str, Holder]:
    """Who holds which device (by UUID) now, on the whole machine."""
    found: dict[str, Holder] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.glob("*.lock")):
        with contextlib.suppress(OSError), _opened(path) as fd:
            if not _try_lock(fd, fcntl.LOCK_SH, tries=1):
                found[path.stem] = _read_note(fd)
    return found


def write_note(path: Path, run_id: str, workspace: Path) -> None:
    """Say who holds it. Another user's file may refuse: the lock counts, not the note."""
    holder = Holder(run_id, user_name(), os.getpid(), time.time(), os.fspath(workspace.resolve()))
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
            str(note.get("workspace", "")),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Holder("?", "?", 0, 0.0)


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
