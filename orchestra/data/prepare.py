"""Make manifests of a corpus on disk: `python -m orchestra.data.prepare CORPUS --root DIR`.

librispeech and digits are read here, all others by the tasks that know them (see `corpora`). Every
file is checked first; if anything is missing all of it is named and nothing is written.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestra.data import corpora, digits, librispeech, program
from orchestra.data.outcomes import done, refused, require_writable, written
from orchestra.data.owned import PARTIAL_PREFIX, is_unfinished, own_folder
from orchestra.data.synth import MARKER
from orchestra.wire.builtin import builtin_folder
from orchestra.wire.errors import ConflictError, UsageError
from orchestra.wire.manifest import write_manifest

DIGITS_MARKER = "digits.json"


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="data prepare", description="Make manifests of a corpus on disk."
    )
    parser.add_argument("corpus", help="librispeech, digits, or one of a task")
    parser.add_argument("--root", type=Path, required=True, help="folder of the corpus")
    parser.add_argument(
        "--out", type=Path, help="where the result goes; default: manifests/ in the corpus"
    )
    parser.add_argument(
        "--code", type=Path, default=builtin_folder(), help="folder of the tasks' code"
    )
    parser.add_argument("--force", action="store_true", help="replace manifests of other makers")
    return program.run(parser, _work, argv)


def _work(arguments: argparse.Namespace) -> program.Outcome:
    root = arguments.root.absolute()
    if not root.is_dir():
        raise UsageError(f"--root {root}: no such folder")
    if arguments.corpus == "digits":
        if arguments.out is None:
            raise UsageError("data prepare digits writes recordings too: say where, with --out DIR")
        return prepare_digits(root, arguments.out.absolute())
    out = (arguments.out or root / "manifests").absolute()
    if arguments.corpus == "librispeech":
        return prepare_librispeech(root, out, force=arguments.force)
    found = corpora.find_corpora(arguments.code)
    if arguments.corpus not in found.corpora:
        raise corpora.unknown(arguments.corpus, found)
    return prepare_tasks_own(found.corpora[arguments.corpus], root, out, force=arguments.force)


def prepare_librispeech(root: Path, out: Path, *, force: bool = False) -> program.Outcome:
    """Write one manifest per split folder found below `root` into `out`."""
    names = librispeech.find_splits(root)
    require_writable(out)
    splits = [librispeech.read_split(root, name, out) for name in names]
    problems = [problem for split in splits for problem in split.problems]
    if problems:
        return refused(root, problems)
    command = f"orchestra data prepare librispeech --root {root} --out {out}"
    return written(out, {split.name: split.lines for split in splits}, command, force=force)


def prepare_tasks_own(
    corpus: corpora.Corpus, root: Path, out: Path, *, force: bool = False
) -> program.Outcome:
    """Write the manifests of a corpus that a task knows into `out`."""
    if is_unfinished(root, MARKER):
        raise ConflictError(
            f"{root}: the synthesis of this corpus has not ended; run it again: "
            f"orchestra data synth {corpus.name} --root {root}"
        )
    require_writable(out)
    prepared = corpus.prepare(root, out)
    problems = corpora.faults(prepared)
    if problems:
        return refused(root, problems)
    command = f"orchestra data prepare {corpus.name} --root {root} --out {out}"
    return written(out, prepared.splits, command, force=force)


def prepare_digits(root: Path, out: Path) -> program.Outcome:
    """Write joins as FLAC into `out/audio` and manifests into `out/manifests`."""
    takes = digits.find_takes(root)
    problems = digits.unreadable_takes(takes)
    if problems:
        return refused(root, problems)
    waveforms = digits.read_takes(takes)
    dealt = digits.deal_takes(takes)
    identity = {"made_by": "data prepare digits"}
    with own_folder(out, DIGITS_MARKER, identity) as folder:
        folder.mark(complete=False)
        partial = out / f"{PARTIAL_PREFIX}audio"
        lines = {}
        for split, count in digits.JOINS.items():
            program.say(f"{split}: joining {count} utterances from {len(dealt[split])} takes")
            joins = digits.plan_joins(split, dealt[split], count)
            lines[split] = digits.write_joins(
                joins, waveforms, partial / split, f"../audio/{split}"
            )
        _replace(out / "audio", partial)
        command = f"orchestra data prepare digits --root {root} --out {out}"
        manifests = out / "manifests"
        summaries = {
            split: write_manifest(manifests, split, rows, command) for split, rows in lines.items()
        }
        folder.mark(complete=True)
    program.say("the joins are artificial: single recordings, put one after another with pauses")
    return done(manifests, summaries)


def _replace(final: Path, partial: Path) -> None:
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)


if __name__ == "__main__":
    sys.exit(main())
