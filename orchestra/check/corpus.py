"""The tiny corpus of a task, made and prepared where its rules are looked at."""

from __future__ import annotations

from pathlib import Path

from orchestra.check.mistakes import of_task
from orchestra.data.corpora import faults, find_corpora
from orchestra.data.problems import describe
from orchestra.data.synth import DEFAULT_SEED
from orchestra.tasks import find_task
from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import write_manifest


def make_corpus(task: str, code: Path, root: Path, manifests: Path) -> None:
    """Let the task's tiny.py write below `root`, and its prepare.py read that into `manifests`.

    Raises:
        NotFoundError: the task has no such files.
        DataError: it can't read what it made; every problem is named.
        MistakeError: one of them raised what it should not have.
    """
    found = find_corpora(code)
    for corpus in found.corpora.values():
        if corpus.task == task and corpus.make is not None:
            break
    else:
        broken = "".join(f"; {sentence}" for sentence in found.broken)
        raise NotFoundError(f"task {task!r} has no tiny.py beside a prepare.py{broken}")
    root.mkdir(parents=True, exist_ok=True)
    with of_task(find_task(task, code).folder):
        corpus.make(root, DEFAULT_SEED)
        prepared = corpus.prepare(root, manifests)
    problems = faults(prepared)
    if problems:
        listed = "\n  ".join(describe(problems))
        raise DataError(f"task {task!r}: its prepare.py can't read what tiny.py made:\n  {listed}")
    for split, lines in prepared.splits.items():
        write_manifest(manifests, split, lines, "orchestra task check")
