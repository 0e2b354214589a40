"""What the programs that write manifests say at the end: what was written, or why nothing was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestra.data import program
from orchestra.data.owned import PARTIAL_PREFIX
from orchestra.data.problems import Problem, count_by_kind, describe
from orchestra.wire.errors import ConflictError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import (
    Summary,
    manifest_path,
    read_manifest,
    read_summary,
    write_manifest,
)


def require_writable(out: Path) -> None:
    """Make the folder of the manifests (UsageError: it can't be written)."""
    probe = out / f".{PARTIAL_PREFIX}probe"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write manifests to {out}: {error.strerror}; choose another folder with --out"
        ) from None


def written(
    out: Path, splits: Mapping[str, Sequence[dict[str, Any]]], command: str, *, force: bool
) -> program.Outcome:
    """Write the lines of each split into its manifest and tell them.

    Raises:
        ConflictError: a manifest is there that says something else and that `command` did not
            make, or that was changed since; with `force` it is replaced all the same.
    """
    if not force:
        _refuse_others(out, splits, command)
    return done(
        out, {split: write_manifest(out, split, lines, command) for split, lines in splits.items()}
    )


def _refuse_others(out: Path, splits: Mapping[str, Sequence[dict[str, Any]]], command: str) -> None:
    for split, lines in splits.items():
        if not manifest_path(out, split).exists():
            continue
        maker = read_summary(out, split).prepared_by
        if maker == command or [one.fields for one in read_manifest(out, split)] == lines:
            continue
        by = f"made by `{maker}`" if maker else "written or changed by hand"
        raise ConflictError(
            f"{manifest_path(out, split)} is there, {by}: choose another folder with --out, or "
            "replace it with --force"
        )


def done(manifests: Path, summaries: Mapping[str, Summary]) -> program.Outcome:
    """Tell the splits that were written."""
    for name, summary in summaries.items():
        program.say(_one_line(name, summary))
    document: dict[str, Any] = {
        "manifests": str(manifests),
        "splits": {name: asdict(summary) for name, summary in summaries.items()},
    }
    return program.Outcome(document)


def refused(root: Path, problems: Sequence[Problem]) -> program.Outcome:
    """Tell all problems of a corpus of which nothing was written."""
    for line in describe(problems):
        program.say(line)
    program.say(f"{root}: {len(problems)} problems, so no manifest was written")
    places: dict[str, list[str]] = {}
    for problem in problems:
        places.setdefault(problem.kind, []).append(problem.where)
    document = {"root": str(root), "counts": count_by_kind(problems), "problems": places}
    return program.Outcome(document, ExitCode.FAILED)


def _one_line(name: str, summary: Summary) -> str:
    words = f", {summary.words} words" if summary.words else ""
    return (
        f"{name}: {summary.count} utterances, {summary.seconds / 3600:.2f} h, "
        f"longest {summary.longest_s:.1f} s{words}"
    )
