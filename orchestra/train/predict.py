"""Predicts recordings with a trained model: `python -m orchestra.train.predict`.

JSON Lines on stdout, one object per recording, in the order they were named; talk on stderr. Whole
files and folders are looked at before anything is predicted; lines of stdin are answered one by
one, as they come. Writes nothing but the file it is told to.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from orchestra.config.frozen import read_frozen
from orchestra.data.program import Outcome, run, say
from orchestra.data.recordings import Unreadable, listed, measured, recording
from orchestra.tasks import Task
from orchestra.train.predictor import Answer, Predictor, load_predictor
from orchestra.wire import lifeline
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.files import write_atomic
from orchestra.wire.job import CODE
from orchestra.wire.manifest import Utterance, read_manifest

STDIN = "-"
REFUSE, REPORT = "refuse", "report"
_WINDOW = 256
"""Recordings that are batched by length together, and answered together."""

Item = Utterance | Unreadable
Record = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    lifeline.die_with_parent()
    return run(_parser(), _work, argv)


def _work(arguments: argparse.Namespace) -> Outcome:
    stdout, out = sys.stdout, arguments.out
    if out is not None and not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.absolute().parent}")
    with contextlib.redirect_stdout(sys.stderr):  # a task may print
        windows, total = _windows(arguments)
        predictor = load_predictor(
            arguments.config,
            _code(),
            arguments.weights,
            _device(gpu=arguments.gpu),
            arguments.batch_seconds,
        )
        refuses = arguments.on_error == REFUSE
        records = _records(predictor, windows, refuses=refuses, total=total)
        failed = _write(records, stdout, out)
    return Outcome(None, ExitCode.FAILED if failed else ExitCode.OK)


def _windows(arguments: argparse.Namespace) -> tuple[Iterable[Sequence[Item]], int | None]:
    """What is to be predicted, in groups that are answered together; and how many, if known.

    Raises:
        DataError: recordings can't be read, and that is to be refused; each was named on stderr.
        NotFoundError: no such file, folder or split.
    """
    if arguments.paths == [STDIN]:
        return ([item] for item in _from_lines(sys.stdin)), None
    items: list[Item]
    if arguments.split is not None:
        items = list(_task(arguments.config).utterances(arguments.split))
    elif arguments.manifest is not None:
        items = list(_of_manifest(arguments.manifest))
    else:
        paths = [Path(word) for word in arguments.paths]
        items = _of_files(paths, refuses=arguments.on_error == REFUSE)
    starts = range(0, len(items), _WINDOW)
    return (items[start : start + _WINDOW] for start in starts), len(items)


def _from_lines(lines: Iterable[str]) -> Iterator[Item]:
    """A path each; empty lines are none."""
    for line in lines:
        path = line.rstrip("\r\n")
        if "\0" in path:  # `find -print0`
            raise UsageError("stdin: give one path in a line, not separated by NUL")
        if path:
            yield from measured([recording(Path(path))])


def _of_manifest(path: Path) -> list[Utterance]:
    if path.suffix != ".jsonl":
        raise UsageError(f"--manifest {path}: a manifest is a .jsonl file")
    return read_manifest(path.parent.absolute(), path.stem)


def _of_files(paths: Sequence[Path], *, refuses: bool) -> list[Item]:
    found = listed(paths)
    if found.others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.others.most_common())
        say(f"{found.others.total()} files in the folders are no audio by their suffix: {kinds}")
    items = measured(found.recordings)
    bad = [item for item in items if isinstance(item, Unreadable)]
    if bad and refuses:
        for item in bad:
            say(item.error)
        raise DataError(
            f"{len(bad)} of {len(items)} recordings can't be read, so nothing was predicted: mend "
            "or remove them, or let them be reported with --on-error report"
        )
    return items


def _records(
    predictor: Predictor, windows: Iterable[Sequence[Item]], *, refuses: bool, total: int | None
) -> Iterator[Record]:
    """A record per item: its prediction, or its error.

    Raises:
        DataError: there is no prediction for one, and that is to be refused.
    """
    done = 0
    for items in windows:
        answers = predictor.answers([item for item in items if isinstance(item, Utterance)])
        for item in items:
            if isinstance(item, Unreadable):
                yield _named(item.recording.id, item.recording.path) | {"error": item.error}
            else:
                yield _record(next(answers), refuses=refuses)
        done += len(items)
        if total is not None and total > _WINDOW:
            say(f"{done} of {total} recordings")


def _record(answer: Answer, *, refuses: bool) -> Record:
    utterance = answer.utterance
    if answer.is_silent:
        say(f"{utterance.path}: silent; what is predicted for it means nothing")
    if answer.prediction is not None:
        return _named(utterance.id, utterance.path) | answer.prediction
    if refuses:
        raise DataError(f"{utterance.path}: {answer.error}")
    return _named(utterance.id, utterance.path) | {"error": answer.error}


def _named(name: str, path: Path) -> Record:
    return {"id": name, "path": str(path)}


def _write(records: Iterable[Record], stdout: TextIO, out: Path | None) -> int:
    """Each record as a line, at once; or all of them to the file `out` when they are there.

    Returns how many are errors.
    """
    failed = 0
    lines: list[str] = []
    for record in records:
        failed += "error" in record
        line = json.dumps(record, ensure_ascii=False) + "\n"
        if out is None:
            # File names may hold bytes that are no UTF-8: JSON has an escape for them.
            stdout.buffer.write(_encoded(line))
            stdout.buffer.flush()
        else:
            lines.append(line)
    if out is not None:
        write_atomic(out.absolute(), _encoded("".join(lines)))
        say(f"{len(lines)} records in {out}")
    if failed:
        say(f"{failed} recordings have no prediction, only an error")
    return failed


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _task(config_path: Path) -> Task:
    config, info = read_frozen(config_path, _code())
    return info.task_class()(config.task, config.data)


def _device(*, gpu: bool) -> torch.device:
    if gpu and not torch.cuda.is_available():
        raise UsageError("--gpu: torch finds no such GPU here; leave it out to predict on the CPU")
    return torch.device("cuda" if gpu else "cpu")


def _code() -> Path:
    return Path(os.environ.get(CODE, Path.cwd()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="orchestra predict", allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True, help="frozen config")
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint or export folder")
    parser.add_argument("--gpu", action="store_true", help="on the only GPU that is visible")
    parser.add_argument("--batch-seconds", type=float, help="audio in one forward pass")
    parser.add_argument("--out", type=Path, help="write there instead of to stdout")
    parser.add_argument("--on-error", choices=(REFUSE, REPORT), required=True)
    parser.add_argument("--split", help="of the run's data, instead of paths")
    parser.add_argument("--manifest", type=Path, help="a manifest, instead of paths")
    parser.add_argument("paths", type=str, nargs="*", help="files and folders, or - for stdin")
    return parser


if __name__ == "__main__":
    # Who reads us may have had enough, as `head` has.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if isinstance(sys.stdin, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdin.reconfigure(errors="surrogateescape")
    sys.exit(main())
