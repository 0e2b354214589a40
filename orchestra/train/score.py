"""Scores predictions against references: `python -m orchestra.train.score`.

The task's own `refer` and `score`, with what its run has learnt; no model and no audio. One JSON
document on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestra.config.frozen import read_frozen
from orchestra.data.program import Outcome, run, say
from orchestra.tasks import Prediction, Task
from orchestra.train import learnt
from orchestra.train.references import (
    By,
    Matched,
    Row,
    match,
    read_lines,
    read_rows,
    require_all,
    some,
    utterance_of,
)
from orchestra.wire import lifeline
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.job import CODE

STDIN = "-"


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    lifeline.die_with_parent()
    return run(_parser(), _work, argv)


def _work(arguments: argparse.Namespace) -> Outcome:
    with contextlib.redirect_stdout(sys.stderr):  # a task may print
        config, info = read_frozen(arguments.config, Path(os.environ.get(CODE, Path.cwd())))
        task = info.task_class()(config.task, config.data)
        task.recall(learnt.read_file(arguments.learnt))
        predictions = _read_predictions(arguments.predictions)
        return Outcome(
            score(
                task,
                predictions,
                arguments.refs,
                by=arguments.by,
                partial=arguments.partial,
            )
        )


def score(
    task: Task, predictions: Sequence[Prediction], refs: Path, *, by: By | None, partial: bool
) -> dict[str, Any]:
    """Metrics, directions and counts, as a JSON document.

    Args:
        by: what predictions and references are matched by; None: ids where references have them.
        partial: score what has both, instead of refusing.

    Raises:
        DataError: they don't match, there is nothing to score, or a label can't be used.
    """
    rows = read_rows(refs)
    by = by or ("id" if "id" in rows[0] else "path")
    matched = match(predictions, rows, by, refs.absolute().parent)
    if not partial:
        require_all(matched, by)
    if not matched.pairs:
        raise DataError(f"no prediction has a reference in {refs} (matched by {by})")
    records = [_referred(task, prediction, row) for prediction, row in matched.pairs]
    labelled = [record for record in records if record is not None]
    without = [str(p["id"]) for (p, _), r in zip(matched.pairs, records, strict=True) if r is None]
    if labelled and without and not partial:
        raise DataError(
            f"{refs}: {len(without)} references have no label that the task scores "
            f"({some(without)}), {len(labelled)} have one: score these alone with --partial"
        )
    with _of_this_task(task, "the predictions"):
        metrics = task.score(labelled) if labelled else {}
    if not metrics:
        raise DataError(f"{refs}: no labels that the task scores; it has {', '.join(rows[0])}")
    if partial:
        _tell_partial(matched, len(labelled), len(without))
    return {
        "task": task.config.kind,
        "refs": str(refs),
        "matched_by": by,
        "utterances": len(labelled),
        "unlabelled": len(without),
        "missing": len(matched.missing),
        "extra": len(matched.extra),
        "errors": len(matched.errors),
        "metrics": metrics,
        "declared": list(task.metrics),
        "directions": dict(task.metrics),
    }


def _referred(task: Task, prediction: Prediction, row: Row) -> Prediction | None:
    """The prediction beside its reference; None where the row has no label."""
    with _of_this_task(task, f"prediction {prediction['id']}"):
        record = task.refer(prediction, utterance_of(prediction, row))
    return None if record == prediction else record


@contextlib.contextmanager
def _of_this_task(task: Task, what: str) -> Iterator[None]:
    """Predictions come from anywhere: what a task trips over in them is told as bad data."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{what}: not as task {task.config.kind!r} writes them ({error!r}); give what "
            "`orchestra predict` printed for a run of that task"
        ) from error


def _tell_partial(matched: Matched, scored: int, without: int) -> None:
    say(
        f"scored {scored}; left out: {len(matched.missing)} references without a "
        f"prediction ({len(matched.errors)} of them with an error), {len(matched.extra)} "
        f"predictions without a reference, {without} references without a label"
    )


def _read_predictions(name: str) -> list[Prediction]:
    if name == STDIN:
        text = sys.stdin.read()
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--predictions {name}: {error.strerror}") from error
    records = list(read_lines("predictions", text))
    if not records:
        raise DataError("there are no predictions: pipe what `orchestra predict` prints")
    return records


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="orchestra score", allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True, help="frozen config")
    parser.add_argument("--learnt", type=Path, required=True, help="what the task learnt, if it is")
    parser.add_argument("--refs", type=Path, required=True, help="JSON Lines or CSV")
    parser.add_argument("--predictions", default=STDIN, help="JSON Lines; - for stdin")
    parser.add_argument("--by", choices=("id", "path"))
    parser.add_argument("--partial", action="store_true", help="score what has both")
    return parser


if __name__ == "__main__":
    sys.exit(main())
