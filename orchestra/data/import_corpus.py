"""Make manifests of one's own data: `python -m orchestra.data.import_corpus FILE ... --out DIR`.

A file is JSON Lines or a table with a header, a folder is Kaldi's. Everything is checked first; if
anything is wrong all of it is named and nothing is written.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestra.data import import_csv, import_jsonl, import_kaldi, program
from orchestra.data.import_lines import PLACES, RESERVED, TEXTS, Columns, Import, choose
from orchestra.data.import_rows import Row, Table
from orchestra.data.outcomes import refused, require_writable, written
from orchestra.wire.errors import NotFoundError, UsageError

READERS: dict[str, Callable[[Path], Table]] = {
    ".jsonl": import_jsonl.read,
    ".ndjson": import_jsonl.read,
    ".csv": import_csv.read,
    ".tsv": import_csv.read,
}
"""By the end of a file's name."""

_HOLDS = {
    "id": "ids; default: made from the path",
    "path": "paths of the recordings",
    "start": "where an utterance begins in its recording, in seconds",
    "end": "where it ends; empty: with the recording",
    "duration": "how long it lasts, instead of its end",
    "text": "transcripts",
    "label": "classes",
    "speaker": "speakers",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="data import", description="Make manifests of one's own data."
    )
    parser.add_argument("source", type=Path, nargs="+", help="JSON Lines, CSV, TSV, Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the manifests")
    parser.add_argument(
        "--split", action="append", default=[], help="one for each source; default: its name"
    )
    parser.add_argument("--split-column", help="column that holds each row's split")
    for name in (*PLACES, *TEXTS):
        parser.add_argument(f"--{name}", metavar="COL", help=f"column of {_HOLDS[name]}")
    parser.add_argument(
        "--column", action="append", default=[], metavar="NEW=COL", help="one more field"
    )
    parser.add_argument("--audio-root", type=Path, help="what relative paths begin at")
    parser.add_argument("--force", action="store_true", help="replace manifests of other makers")
    given = list(sys.argv[1:] if argv is None else argv)
    words = [word for word in given if word != "--force"]
    command = shlex.join(["orchestra", "data", "import", *words])
    return program.run(parser, lambda arguments: _work(arguments, command), argv)


def _work(arguments: argparse.Namespace, command: str) -> program.Outcome:
    columns = _columns(arguments)
    names = _split_names(arguments)
    if arguments.audio_root is not None and not arguments.audio_root.is_dir():
        raise UsageError(f"--audio-root {arguments.audio_root}: no such folder")
    out = arguments.out.absolute()
    importing = Import(out)
    for source, name in zip(arguments.source, names, strict=True):
        table = read_table(source.absolute())
        if table.problems and not table.rows:
            return refused(out, table.problems)
        chosen = choose(table, columns)
        if chosen.unused:
            hint = "take one along with --column NEW=COL"
            program.say(f"{source}: not imported: {', '.join(chosen.unused)}; {hint}")
        root = arguments.audio_root or table.source.parent
        importing.add(table, chosen, _split_of(columns.split, name), root.absolute())
    if problems := importing.all_problems():
        return refused(out, problems)
    require_writable(out)
    return written(out, importing.splits, command, force=arguments.force)


def read_table(source: Path) -> Table:
    """A file or a Kaldi folder (UsageError, NotFoundError, DataError)."""
    if source.is_dir():
        return import_kaldi.read(source)
    if not source.exists():
        raise NotFoundError(f"{source}: no such file or folder")
    reader = READERS.get(source.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{source}: what is it? Its name must end in {', '.join(READERS)}, or it is a Kaldi "
            "data folder"
        )
    return reader(source)


def _columns(arguments: argparse.Namespace) -> Columns:
    """What the options say (UsageError: they can't be meant)."""
    named = {
        name: column
        for name in (*PLACES, *TEXTS)
        if (column := getattr(arguments, name)) is not None
    }
    more = {}
    for text in arguments.column:
        field, equals, column = text.partition("=")
        if not (field and equals and column):
            raise UsageError(f"--column {text}: write NEW=COL, the field and the column")
        if field in RESERVED or field in TEXTS:
            option = f"; say --{field} {column}" if field in (*PLACES, *TEXTS) else ""
            raise UsageError(f"--column {text}: {field} has a meaning of its own{option}")
        more[field] = column
    return Columns(named, more, arguments.split_column)


def _split_names(arguments: argparse.Namespace) -> list[str]:
    """One for each source (UsageError: they don't fit)."""
    sources, given = arguments.source, arguments.split
    if arguments.split_column is not None and given:
        raise UsageError("--split and --split-column: give one of them")
    if given and len(given) != len(sources):
        raise UsageError(
            f"{len(sources)} sources, but {len(given)} --split: give one for each, in their order"
        )
    names = given or [source.absolute().stem for source in sources]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled and arguments.split_column is None:
        raise UsageError(f"two sources for split {doubled[0]!r}: give each a --split of its own")
    return names


def _split_of(column: str | None, name: str) -> Callable[[Row], Any]:
    return (lambda row: row.cells.get(column)) if column else (lambda row: name)


if __name__ == "__main__":
    sys.exit(main())
