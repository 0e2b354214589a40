"""Hashes of recordings, each computed once per file: what names their features in the cache.

A file is known again by path, size, inode and time of change, as git's index knows its files: the
time of modification is what programs claim, the time of change is what the disk saw. What changed a
moment ago is hashed anew. Lines `<32 hex digits> <64 hex digits>` are appended
to one of 256 files, each by one write, so that ranks, workers and runs may share them; a line that
a kill or a full disk tore is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

_LINE = re.compile(rb"^([0-9a-f]{32}) ([0-9a-f]{64})$", re.MULTILINE)
_RACY_S = 2.0
"""A file changed so lately may be changed again within one tick of its disk's clock."""


class RecordingHashes:
    """The hashes in a folder, and those that this process adds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, str] = {}
        self._read_to: dict[Path, int] = {}  # bytes of each file that are in `_known`

    def of(self, path: Path) -> str:
        """SHA-256 of a file's bytes, in hex (OSError)."""
        before = path.stat()
        mark = f"{path}\0{before.st_size}\0{before.st_ctime_ns}\0{before.st_ino}"
        name = hashlib.sha256(mark.encode(errors="surrogateescape")).hexdigest()[:32]
        lines = self._folder / name[:2]
        if name not in self._known:
            self._read_new(lines)
        if (known := self._known.get(name)) is not None:
            return known
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        same = (after.st_ctime_ns, after.st_ino) == (before.st_ctime_ns, before.st_ino)
        if same and abs(time.time() - after.st_ctime) > _RACY_S:
            self._known[name] = digest
            _append(lines, f"{name} {digest}\n".encode())
        return digest

    def _read_new(self, lines: Path) -> None:
        """What other processes have added since."""
        start = self._read_to.get(lines, 0)
        try:
            with lines.open("rb") as file:
                file.seek(start)
                data = file.read()
        except OSError:  # none yet; or they can't be read, which costs the time to hash
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to[lines] = start + len(whole)
        self._known |= {name.decode(): hash_.decode() for name, hash_ in _LINE.findall(whole)}


def _append(lines: Path, line: bytes) -> None:
    with contextlib.suppress(OSError):  # costs the next reader a hash, no more
        lines.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
