"""Decode every recording of the manifests and name what training would stumble over.

`python -m orchestra.data.check --manifests DIR [--split S ...]`; reads only.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestra.data import SAMPLE_RATE, program
from orchestra.data.audio import is_silent, read_audio, read_header
from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import (
    Utterance,
    manifest_path,
    parts_of,
    read_manifest,
    splits_in,
)

LENGTH_TOLERANCE_S = 0.1
"""How far a file may be longer than the only utterance that is said to fill it."""

_PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class Finding:
    """Something wrong with one manifest line."""

    line: int
    id: str
    problem: str


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="data check", description="Decode every recording of the manifests."
    )
    parser.add_argument("--manifests", type=Path, required=True, help="folder of the manifests")
    parser.add_argument("--split", action="append", help="only this split (repeatable)")
    return program.run(parser, _work, argv)


def _work(arguments: argparse.Namespace) -> program.Outcome:
    folder = arguments.manifests.absolute()
    named = [part for split in arguments.split or () for part in parts_of(split)]
    splits = list(dict.fromkeys(named)) or splits_in(folder)
    if not splits:
        raise NotFoundError(f"no manifests in {folder}: make them with `orchestra data prepare`")
    reports = {split: check_split(folder, split) for split in splits}
    wrong = sum(len(report["problems"]) for report in reports.values())
    program.say(f"{wrong} of {sum(r['count'] for r in reports.values())} utterances are unusable")
    document = {"manifests": str(folder), "problems": wrong, "splits": reports}
    return program.Outcome(document, ExitCode.FAILED if wrong else ExitCode.OK)


def check_split(folder: Path, split: str) -> dict[str, Any]:
    """Count, seconds and findings of a split; each finding is also said on stderr.

    Raises:
        NotFoundError: no such manifest.
        DataError: a line of it is no utterance, or an id stands twice.
    """
    utterances = read_manifest(folder, split)
    uses = Counter(utterance.path for utterance in utterances)

    def check(utterance: Utterance) -> str | None:
        return find_problem(utterance, alone_in_file=uses[utterance.path] == 1)

    findings = []
    for line, problem in enumerate(program.in_threads(check, utterances), 1):
        if problem is not None:
            findings.append(Finding(line, utterances[line - 1].id, problem))
            program.say(f"{manifest_path(folder, split)}, line {line}: {problem}")
        if line % _PROGRESS_EVERY == 0 or line == len(utterances):
            checked = f"{line} of {len(utterances)} checked"
            program.say(f"{split}: {checked}, {len(findings)} unusable")
    return {
        "count": len(utterances),
        "seconds": round(sum(utterance.duration_s for utterance in utterances), 3),
        "problems": [asdict(finding) for finding in findings],
    }


def find_problem(utterance: Utterance, *, alone_in_file: bool) -> str | None:
    """What is wrong with an utterance, in one sentence, or None."""
    try:
        samples = read_audio(utterance)
    except DataError as error:
        return str(error)
    name = f"utterance {utterance.id!r}: {utterance.path}"
    if is_silent(samples):
        return f"{name}: silent ({len(samples) / SAMPLE_RATE:.2f} s)"
    text = utterance.fields.get("text")
    if text is not None and not str(text).strip():
        return f"{name}: its text is empty"
    if alone_in_file and utterance.offset_s == 0.0:
        file_s = read_header(utterance.path).duration_s
        if file_s > utterance.duration_s + LENGTH_TOLERANCE_S:
            return (
                f"{name}: the file lasts {file_s:.2f} s, the manifest says "
                f"{utterance.duration_s:.2f} s"
            )
    return None


if __name__ == "__main__":
    sys.exit(main())
