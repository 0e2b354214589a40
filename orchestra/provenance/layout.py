"""Code folders under runs/.snapshots: one per content, written once, whole or not at all.

Knows nothing of git: who fills a folder is passed in. Several runs may lay out the same one.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunsFolder

_TEMPORARY = ".tmp-"


def lay_out(runs: RunsFolder, key: str, fill: Callable[[Path], None]) -> Path:
    """The folder of this key; `fill` writes its content if it is not there yet.

    Raises:
        OrchestraError: it can't be written.
    """
    target = runs.snapshot(key)
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=target.parent))
        try:
            fill(temporary)
            temporary.chmod(0o755)
            # A power cut must not leave a folder of empty files under a name that is trusted.
            _sync(temporary)
            _rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OrchestraError(
            f"cannot lay out the code in {target}: {error.strerror}: "
            "free some space, or name another disk with --runs-dir"
        ) from error
    return target


def unused_snapshots(runs: RunsFolder, keep: Collection[str]) -> list[Path]:
    """Code folders whose key is not in `keep`, and what a killed layout left behind.

    Only while nobody submits (the caller holds that off): a folder may be about to be used.
    """
    folder = runs.snapshot("x").parent
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name not in keep)


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        # Another run was faster; same key, same content.


def _sync(folder: Path) -> None:
    """One syncfs: an fsync per file took 5 s for 1,000 files."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno))
    finally:
        os.close(fd)
