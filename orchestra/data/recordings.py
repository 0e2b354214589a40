"""Recordings that a user names on the command line: files, folders and lines of stdin.

Finds them, gives them ids and reads their headers; decodes none. What is wrong is collected, so
that all of it is told at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestra.data.audio import Header
from orchestra.data.problems import headers_of
from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import Utterance

_SUFFIXES = ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .sph .voc .w64 .wav"
SUFFIXES = frozenset(_SUFFIXES.split(" "))
"""Of the files in a folder that are taken for audio; a file that is named may have any."""

_OF_AUDIO = {"id", "path", "offset_s", "duration_s"}


@dataclass(frozen=True)
class Recording:
    """One audio file, taken as one utterance."""

    id: str
    """Its path without the suffix, as the user gave it or relative to the folder that was named."""
    path: Path


@dataclass(frozen=True)
class Unreadable:
    """A recording that can't be predicted."""

    recording: Recording
    error: str
    """One sentence; names the file."""


@dataclass(frozen=True)
class Listed:
    """What the words of a command line name."""

    recordings: list[Recording]
    others: Counter[str]
    """Files in the folders that are no audio by their suffix, counted by it."""


def listed(paths: Iterable[Path]) -> Listed:
    """Files as they are, folders as all audio files below them, sorted.

    Raises:
        NotFoundError: there is no such file or folder, or no audio in a folder.
        DataError: two files would have one id, or a folder can't be read.
    """
    recordings: list[Recording] = []
    others: Counter[str] = Counter()
    for path in paths:
        if path.is_dir():
            files = _files_below(path)
            audio = [file for file in files if file.suffix.lower() in SUFFIXES]
            if not audio:
                raise NotFoundError(f"{path}: no audio file in it ({' '.join(sorted(SUFFIXES))})")
            recordings += [Recording(_without_suffix(f.relative_to(path)), f) for f in audio]
            others.update(f.suffix or f.name for f in files if f.suffix.lower() not in SUFFIXES)
        elif os.path.lexists(path):  # a link that leads nowhere gets its own sentence
            recordings.append(recording(path))
        else:
            raise NotFoundError(f"{path}: no such file or folder")
    _require_own_ids(recordings)
    return Listed(recordings, others)


def recording(path: Path) -> Recording:
    """A file that was named by itself."""
    return Recording(_without_suffix(path), path)


def measured(recordings: Sequence[Recording]) -> list[Utterance | Unreadable]:
    """Each whole file as an utterance, in order, or why it is none: unreadable, empty, torn."""
    headers, problems = headers_of([each.path for each in recordings])
    bad = iter(problems)
    return [
        _utterance(each, headers[each.path])
        if each.path in headers
        else Unreadable(each, next(bad).where)
        for each in recordings
    ]


def without_labels(utterance: Utterance) -> Utterance:
    """The audio alone, as if it had been named by itself."""
    known = {key: utterance.fields[key] for key in _OF_AUDIO & utterance.fields.keys()}
    return replace(utterance, fields=known)


def _utterance(recording: Recording, header: Header) -> Utterance:
    path, seconds = recording.path, header.duration_s
    fields = {"id": recording.id, "path": str(path), "offset_s": 0.0, "duration_s": seconds}
    return Utterance(recording.id, path, 0.0, seconds, fields)


def _without_suffix(path: Path) -> str:
    """Text that can be written anywhere; file names may hold bytes that are no UTF-8."""
    return os.fsencode(path.with_suffix("")).decode("utf-8", "backslashreplace")


def _files_below(folder: Path) -> list[Path]:
    """All that is no folder, sorted; links to folders are followed, but not in circles (DataError).

    Links that lead nowhere are among them: what is named may not go missing in silence.
    """
    files: list[Path] = []
    above: dict[str, frozenset[str]] = {}
    """The folders in which a folder lies, links resolved."""
    for place, folders, names in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        real = os.path.realpath(place)
        around = above.get(place, frozenset())
        if real in around:
            folders.clear()
            continue
        above |= {f"{place}/{name}": around | {real} for name in folders}
        files += [Path(place, name) for name in names]
    return sorted(files)


def _refuse_folder(error: OSError) -> None:
    raise DataError(f"{error.filename}: {error.strerror}")


def _require_own_ids(recordings: Sequence[Recording]) -> None:
    first: dict[str, Path] = {}
    for each in recordings:
        if each.id in first:
            raise DataError(
                f"{first[each.id]} and {each.path} would both have the id {each.id!r}: rename one, "
                "or give them to two commands"
            )
        first[each.id] = each.path
