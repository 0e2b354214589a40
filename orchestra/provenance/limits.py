"""How much that git does not track may go into a snapshot: code does, recordings don't."""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.wire.errors import UsageError

MAX_FILE_BYTES = 5 * 10**6
MAX_ALL_BYTES = 50 * 10**6
_NAMED = 10


def check_sizes(files: Iterable[tuple[str, int]], kind: str, remedy: str) -> None:
    """Refuse files (path, bytes) that are too big, each or in all.

    Raises:
        UsageError: names the files and says what to do.
    """
    sizes = sorted(files, key=lambda item: -item[1])
    big = [item for item in sizes if item[1] > MAX_FILE_BYTES]
    if big:
        raise UsageError(
            f"{kind} files over {MAX_FILE_BYTES // 10**6} MB are not put into the code snapshot: "
            f"{_names(big)}: {remedy}"
        )
    total = sum(size for _, size in sizes)
    if total > MAX_ALL_BYTES:
        raise UsageError(
            f"{kind} files of {total / 1e6:.0f} MB are too much for a code snapshot (at most "
            f"{MAX_ALL_BYTES // 10**6} MB), the biggest are {_names(sizes)}: {remedy}"
        )


def _names(sizes: list[tuple[str, int]]) -> str:
    named = ", ".join(f"{path} ({size / 1e6:.1f} MB)" for path, size in sizes[:_NAMED])
    return named + (f" and {len(sizes) - _NAMED} more" if len(sizes) > _NAMED else "")
