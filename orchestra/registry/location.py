"""Where the registry file lies: in runs/, or in a local folder where runs/ is on a network.

SQLite's WAL mode shares memory between processes and breaks on network file systems; run folders
are fine there, because each of their files has one writer.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.wire.errors import OrchestraError, UsageError

if TYPE_CHECKING:
    from orchestra.wire.folders import RunsFolder

# f_type of statfs(2), from linux/magic.h and the projects' own headers.
NETWORK_TYPES: dict[int, str] = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB2",
    0xFF534D42: "CIFS",
    0x01021997: "9P",
    0x5346414F: "AFS",
    0x6B414653: "kAFS",
    0x73757245: "Coda",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0xAAD7AAEA: "PanFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x65735546: "FUSE",
    0xBACBACBC: "a host share",
}

_LOCAL = Path(f"/var/tmp/orchestra-{os.getuid()}")  # survives a reboot, unlike /tmp


@dataclass(frozen=True)
class Location:
    """The registry's path. `note` is a sentence where that is not inside runs/, else empty."""

    path: Path
    note: str = ""


def registry_location(runs: RunsFolder) -> Location:
    """Where the registry of these runs belongs on this machine. Makes the folder it lies in.

    Raises:
        OrchestraError: the folder can't be made.
        UsageError: no local folder could be found.
    """
    _make(runs.path, 0o755)
    network = network_type(runs.path)
    if network is None:
        return Location(runs.registry)
    import hashlib  # 3 ms that `orchestra ls` on a local disk needs not pay

    key = hashlib.sha256(os.fsencode(runs.path.resolve())).hexdigest()[:16]
    for state in _state_folders():
        folder = state / key
        _make(folder, 0o700)
        if network_type(folder) is None and folder.stat().st_uid == os.getuid():
            path = folder / runs.registry.name
            note = f"{runs.path} is on {network}: its registry is kept on this machine, in {path}"
            return Location(path, note)
    raise UsageError(
        f"{runs.path} is on {network} and no local folder was found for the registry: "
        "set XDG_STATE_HOME to a folder on a local disk"
    )


def network_type(folder: Path) -> str | None:
    """The name of the network file system that `folder` is on; None if it is local."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)  # struct statfs has 120 bytes; f_type is its first
    if libc.statfs(os.fsencode(folder), buffer) != 0:
        errno = ctypes.get_errno()
        raise OrchestraError(f"cannot use {folder}: {os.strerror(errno)}")
    # A long, of which 32-bit magic numbers fill the low half (sign extended or not).
    magic = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    return NETWORK_TYPES.get(magic)


def _state_folders() -> list[Path]:
    """Candidates, best first; a home folder is often on the network too."""
    state = os.environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path.home() / ".local" / "state"
    return [base / "orchestra", _LOCAL]


def _make(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise OrchestraError(f"cannot make {folder}: {error.strerror}") from error
