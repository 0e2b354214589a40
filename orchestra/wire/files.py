"""Small durable files: JSON written under a temporary name, synced, then renamed into place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestra.wire.errors import DiskFullError, OrchestraError

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a disk, or a user's share of it, that is full."""

_LITTLE_BYTES = 2**18


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; after a crash the old or the new content is there, never a mix.

    Raises:
        DiskFullError: it does not fit.
        OrchestraError: the file can't be written, or not made durable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        kind = DiskFullError if error.errno in DISK_FULL else OrchestraError
        raise kind(f"cannot write {path}: {error.strerror}") from error


def json_bytes(value: Any) -> bytes:
    """A JSON document as every file of ours has it."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of one JSON document."""
    write_atomic(path, json_bytes(value))


def read_json(path: Path) -> Any:
    """The document in `path`.

    Raises:
        FileNotFoundError: there is no such file.
        OrchestraError: the file is not JSON or can't be read.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise OrchestraError(f"cannot read {path}: {error}") from error


def sha256_of(path: Path) -> str:
    """Of the file's content, in hexadecimal; about 1 s per GB (OSError)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """A document that lacks a key or holds something else becomes an OrchestraError."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OrchestraError(f"{path} is broken or of another version: {error!r}") from error


def is_disk_full(folder: Path) -> bool:
    """Whether the disk of `folder` has no room left for small documents."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LITTLE_BYTES


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable (OSError)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
