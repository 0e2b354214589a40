"""Hashes of files, and whether a file is what it claims to be."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from orchestra.fetch.cache import Cache, key_of
from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import read_json, sha256_of

_MOST_RECORDS = 1000
_LARGEST_HEADER = 100 * 2**20
"""Bytes; the limit of safetensors itself."""


def git_hash_of(path: Path) -> str:
    """The name that git, and so the hub, gives to the content of a small file (OSError)."""
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def remembered_sha256(path: Path, cache: Cache) -> str:
    """`sha256_of` a file; taken again only if size or time of change differ since.

    Raises:
        OSError: it can't be read.
    """
    seen = _seen(path)
    known = cache.read("hashes", key_of(seen["path"]))
    if known is not None and known | seen == known and isinstance(known.get("sha256"), str):
        return str(known["sha256"])
    digest = sha256_of(path)
    _keep(seen, digest, cache)  # as it was before: whoever wrote to it meanwhile is noticed
    return digest


def remember(path: Path, sha256: str, cache: Cache) -> None:
    """Spare the next one the second per GB that it takes to hash this file of ours."""
    _keep(_seen(path), sha256, cache)


def _keep(seen: dict[str, Any], sha256: str, cache: Cache) -> None:
    """A cache that can't be written spares nobody anything."""
    with contextlib.suppress(OrchestraError):
        cache.write("hashes", key_of(seen["path"]), seen | {"sha256": sha256})
    records = list((cache.root / "hashes").glob("*.json"))
    if len(records) > _MOST_RECORDS:
        for record in sorted(records, key=_worth)[: len(records) // 2]:
            with contextlib.suppress(OSError):
                record.unlink()


def _worth(record: Path) -> tuple[bool, float]:
    """What is kept longer: the hash of a file that is still as it was, and of these the newer."""
    try:
        known = read_json(record)
        return known | _seen(Path(known["path"])) == known, record.stat().st_mtime
    except (OSError, OrchestraError, TypeError, KeyError):
        return False, 0.0


def _seen(path: Path) -> dict[str, Any]:
    path = path.resolve()
    stat = path.stat()
    return {
        "path": str(path),
        "size": stat.st_size,
        "inode": stat.st_ino,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
    }


def json_flaw(path: Path) -> str | None:
    """Why a file is no JSON object; None if it is one."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({error})"
    return None if isinstance(value, dict) else "it is not a JSON object"


def safetensors_flaw(path: Path) -> str | None:
    """Why the file can't be a whole safetensors file; None if nothing speaks against it.

    Layout (safetensors' README): 8 bytes little endian N, N bytes of JSON with the offsets of all
    tensors, then their bytes and nothing else.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, _LARGEST_HEADER):
            return _what_instead(start)
        try:
            header = json.loads(file.read(length))
            entries = [value for key, value in header.items() if key != "__metadata__"]
            end = max((int(entry["data_offsets"][1]) for entry in entries), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            return _what_instead(start)
    expected = 8 + length + end
    if size != expected:
        return f"it has {size} bytes where its header promises {expected}"
    return None


def _what_instead(start: bytes) -> str:
    if start.startswith(b"PK") or start.startswith(b"\x80"):
        return "it is pickled, and pickled weights are never loaded"
    if start.lstrip().startswith(b"<"):
        return "it is a web page"
    return "it is no safetensors file, or not a whole one"
