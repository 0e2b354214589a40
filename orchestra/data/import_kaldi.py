"""Reads Kaldi's data folders: wav.scp, and segments, text, utt2spk, spk2gender, utt2lang if there.

wav.scp       <recording> <path>           a command or a place in an archive is refused
segments      <utterance> <recording> <start_s> <end_s>      an end of -1 is the recording's
text          <utterance> <transcript>
utt2spk       <utterance> <speaker>
utt2lang      <utterance> <language>
spk2gender    <speaker> <gender>
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestra.data.import_rows import Row, Table, read_text
from orchestra.data.problems import Problem
from orchestra.wire.errors import NotFoundError

_IN_ARCHIVE = re.compile(r":\d+$")
_TO_THE_END = re.compile(r"-1(\.0*)?")
_SEGMENT_CELLS = 3
_OF_SPEAKERS = ("spk2utt", "spk2gender")


@dataclass(frozen=True)
class _Entry:
    """One line: what stands after the key."""

    line: int
    value: str


def read(folder: Path) -> Table:
    """All utterances of a data folder, in the order of segments, or of wav.scp.

    Raises:
        NotFoundError: there is no wav.scp.
        DataError: a file is not UTF-8 or can't be read.
    """
    if not (folder / "wav.scp").is_file():
        raise NotFoundError(f"{folder} is no Kaldi data folder: it has no wav.scp")
    problems: list[Problem] = []
    recordings = _read(folder / "wav.scp", problems)
    refused = _refused_recordings(folder / "wav.scp", recordings)
    problems += refused.values()
    if (folder / "segments").is_file():
        source = folder / "segments"
        rows = _segments(source, recordings, problems)
    else:
        source = folder / "wav.scp"
        rows = [Row(e.line, {"id": key, "path": e.value}) for key, e in recordings.items()]
    columns = dict.fromkeys(["id", "path", *(key for row in rows[:1] for key in row.cells)])
    table = Table(source, tuple(columns), rows, problems)
    for name, column in (("text", "text"), ("utt2spk", "speaker"), ("utt2lang", "lang")):
        table = _joined(table, folder / name, "id", column)
    if "speaker" not in table.columns:
        kind = "files of no use without utt2spk (make it with Kaldi's utils/spk2utt_to_utt2spk.pl)"
        unread = [path for name in _OF_SPEAKERS if (path := folder / name).is_file()]
        more = [Problem(kind, str(path)) for path in unread]
        table = replace(table, problems=[*table.problems, *more])
    table = _joined(table, folder / "spk2gender", "speaker", "gender")
    # What was refused is told once: it is not looked for besides.
    told = {recordings[key].value for key in refused}
    return replace(table, rows=[row for row in table.rows if row.cells["path"] not in told])


def _read(path: Path, problems: list[Problem]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        key, *value = line.split(maxsplit=1)[:2] or [""]
        if not key:
            continue
        if key in entries:
            where = f"{key!r} ({path}, lines {entries[key].line} and {number})"
            problems.append(Problem("keys that stand more than once", where))
            continue
        entries[key] = _Entry(number, value[0].strip() if value else "")
    return entries


def _refused_recordings(path: Path, recordings: dict[str, _Entry]) -> dict[str, Problem]:
    """By recording. Nobody's commands are run, and archives are Kaldi's own."""
    problems = {}
    for key, entry in recordings.items():
        where = f"{key} ({path}, line {entry.line})"
        if entry.value.endswith("|"):
            kind = "recordings that are a command (run it into a .wav file, and name that file)"
            problems[key] = Problem(kind, where)
        elif _IN_ARCHIVE.search(entry.value):
            kind = "recordings in an archive (write .wav files with Kaldi's wav-copy; name those)"
            problems[key] = Problem(kind, where)
    return problems


def _segments(path: Path, recordings: dict[str, _Entry], problems: list[Problem]) -> list[Row]:
    rows = []
    for key, entry in _read(path, problems).items():
        cells = entry.value.split()
        where = f"{key} ({path}, line {entry.line})"
        if len(cells) != _SEGMENT_CELLS:
            expected = "<utterance> <recording> <start_s> <end_s>; split channels into files first"
            problems.append(Problem(f"segments that are not {expected}", where))
            continue
        recording, start, end = cells
        if recording not in recordings:
            unknown = f"{where}: {recording}"
            problems.append(Problem("segments of a recording that wav.scp has not", unknown))
            continue
        cells_by_name: dict[str, Any] = {"id": key, "path": recordings[recording].value}
        cells_by_name |= {"start": start, "end": "" if _TO_THE_END.fullmatch(end) else end}
        rows.append(Row(entry.line, cells_by_name))
    return rows


def _joined(table: Table, path: Path, by: str, column: str) -> Table:
    """The table with what `path` says of each cell of column `by`, if there is such a file.

    Rows of which it says nothing are problems, and left out.
    """
    if not path.is_file() or by not in table.columns:
        return table
    problems: list[Problem] = []
    entries = _read(path, problems)
    lines = {str(row.cells[by]): row.line for row in reversed(table.rows)}
    what = "utterances" if by == "id" else f"{by}s"
    problems += [
        Problem(f"{what} that {path.name} has not", f"{key} ({table.source}, line {line})")
        for key, line in reversed(lines.items())
        if key not in entries
    ]
    if by == "id":
        problems += [
            Problem(f"lines of {path.name} without audio", f"{key} ({path}, line {entry.line})")
            for key, entry in entries.items()
            if key not in lines
        ]
    rows = [
        Row(row.line, {**row.cells, column: entries[key].value})
        for row in table.rows
        if (key := str(row.cells[by])) in entries
    ]
    return Table(
        table.source,
        (*table.columns, column),
        rows,
        [*table.problems, *problems],
        (*table.taken, column),
    )
