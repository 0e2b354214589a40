"""Manifests: one JSON object per utterance, and a small summary beside it for quick checks.

    <split>.jsonl          {"id", "path", "offset_s", "duration_s", "text"?, "speaker"?, ...}
    <split>.summary.json   {"version", "manifest_bytes", "count", "seconds", "longest_s", "words",
                            "prepared_by"}

`path` is relative to the manifest's folder unless it is absolute; `offset_s` is where the utterance
starts in the file. Unknown keys are kept for tasks. Where the summary is missing or out of date
(`manifest_bytes`), the manifest itself is counted. A joint split "a+b" is the manifests a and b, in
this order, wherever one is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orchestra.wire.errors import DataError, NotFoundError, OrchestraError
from orchestra.wire.files import read_json, sha256_of, write_atomic, write_json

VERSION = 1


@dataclass(frozen=True)
class Utterance:
    """One manifest line. `fields` is the whole line, for tasks that need more."""

    id: str
    path: Path  # absolute
    offset_s: float
    duration_s: float
    fields: dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """What a split holds."""

    count: int
    seconds: float
    longest_s: float
    words: int  # distinct words of the transcripts; of a joint split those of its richest part
    prepared_by: str  # the command that made the manifest; empty if unknown


def manifest_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.jsonl"


def summary_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.summary.json"


def parts_of(split: str) -> list[str]:
    """The splits that a joint split joins; a plain one is its only part."""
    return split.split("+")


def splits_in(folder: Path) -> list[str]:
    """The splits that have a manifest in `folder`."""
    return sorted(path.name.removesuffix(".jsonl") for path in folder.glob("*.jsonl"))


def write_manifest(
    folder: Path, split: str, lines: Iterable[dict[str, Any]], prepared_by: str
) -> Summary:
    """Write the manifest and its summary; `path` in the lines as it shall stand in the file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(lines)
    write_atomic(
        manifest_path(folder, split),
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(),
    )
    summary = _summarise(rows, prepared_by)
    size = manifest_path(folder, split).stat().st_size
    document = {"version": VERSION, "manifest_bytes": size, **asdict(summary)}
    write_json(summary_path(folder, split), document)
    return summary


def read_summary(folder: Path, split: str) -> Summary:
    """What a split holds: from its summary, or from the manifest where that is of no use.

    Raises:
        NotFoundError: there is no such manifest; the message lists those that exist.
        DataError: the manifest had to be read and can't be.
    """
    summaries = [_read_summary(folder, part) for part in parts_of(split)]
    return Summary(
        count=sum(summary.count for summary in summaries),
        seconds=round(sum(summary.seconds for summary in summaries), 3),
        longest_s=max(summary.longest_s for summary in summaries),
        words=max(summary.words for summary in summaries),
        prepared_by="; ".join(dict.fromkeys(summary.prepared_by for summary in summaries)),
    )


def _read_summary(folder: Path, split: str) -> Summary:
    try:
        size = manifest_path(folder, split).stat().st_size
    except OSError:
        raise _missing(folder, split) from None
    try:
        document = read_json(summary_path(folder, split))
        if document["manifest_bytes"] == size:
            return Summary(
                count=int(document["count"]),
                seconds=float(document["seconds"]),
                longest_s=float(document["longest_s"]),
                words=int(document["words"]),
                prepared_by=str(document["prepared_by"]),
            )
    except (FileNotFoundError, OrchestraError, KeyError, TypeError, ValueError):
        pass
    return _summarise([utterance.fields for utterance in read_manifest(folder, split)], "")


def read_manifest(folder: Path, split: str) -> list[Utterance]:
    """All utterances of a split, in file order.

    Raises:
        NotFoundError: there is no such manifest.
        DataError: the file can't be read, a line is not an utterance or an id stands twice; file
            and line, or the parts of the joint split, are named.
    """
    return join(split, partial(_read_part, folder))


def join(split: str, read: Callable[[str], Iterable[Utterance]]) -> list[Utterance]:
    """What `read` gives for a split; for a joint one, for each of its parts.

    Raises:
        DataError: an id stands in two parts; both are named.
    """
    utterances: list[Utterance] = []
    part_of: dict[str, str] = {}
    for part in parts_of(split):
        for utterance in read(part):
            if utterance.id in part_of:
                raise DataError(
                    f"split {split!r}: id {utterance.id!r} stands in {part_of[utterance.id]!r} "
                    f"and in {part!r}; ids must be unique"
                )
            part_of[utterance.id] = part
            utterances.append(utterance)
    return utterances


def _read_part(folder: Path, split: str) -> list[Utterance]:
    path = manifest_path(folder, split)
    try:
        # Bytes, because transcripts may hold characters at which str.splitlines would split too.
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except FileNotFoundError:
        raise _missing(folder, split) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if lines == [b""]:
        return []
    utterances = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        utterance = _parse(path, number, line)
        if utterance.id in line_of:
            raise DataError(
                f"{path}, line {number}: id {utterance.id!r} already stands in line "
                f"{line_of[utterance.id]}; ids must be unique"
            )
        line_of[utterance.id] = number
        utterances.append(utterance)
    return utterances


def manifest_sha256(folder: Path | None, split: str) -> str | None:
    """Hash of a manifest, for the record; None where the task makes its own data.

    That of a joint split is the SHA-256 of its parts' hashes, one in a line.
    """
    if folder is None:
        return None
    paths = [manifest_path(folder, part) for part in parts_of(split)]
    if not all(path.is_file() for path in paths):
        return None
    hashes = [sha256_of(path) for path in paths]
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in hashes).encode()).hexdigest()


def _summarise(rows: Sequence[dict[str, Any]], prepared_by: str) -> Summary:
    durations = [float(row["duration_s"]) for row in rows]
    return Summary(
        count=len(rows),
        seconds=round(sum(durations), 3),
        longest_s=max(durations, default=0.0),
        words=len({word for row in rows for word in str(row.get("text", "")).split()}),
        prepared_by=prepared_by,
    )


def _parse(path: Path, number: int, line: bytes) -> Utterance:
    try:
        row = json.loads(line.decode())
        return Utterance(
            id=str(row["id"]),
            path=path.parent / row["path"],
            offset_s=float(row.get("offset_s", 0.0)),
            duration_s=float(row["duration_s"]),
            fields=row,
        )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: not UTF-8 (byte {error.start + 1} of the line)"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}, line {number}: not an utterance ({error!r})") from error


def _missing(folder: Path, split: str) -> NotFoundError:
    known = splits_in(folder) if folder.is_dir() else []
    there = f"it has {', '.join(known)}" if known else "it has no manifests"
    return NotFoundError(f"no manifest of split {split!r} in {folder}: {there}")
