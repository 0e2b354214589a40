"""The corpora that `data prepare` reads and `data synth` makes; `python -m orchestra.data.corpora`
lists them. Those of LibriSpeech and of digits are their own, all others are a task's.

A task folder may hold
    prepare.py   CORPUS, its name; HELP, one line; prepare(root, out) -> Prepared, which reads the
                 corpus below `root` into lines of manifests in `out`, and writes nothing.
                 `prepare_<more>.py` is the same for another corpus.
    tiny.py      make(root, seed): writes a tiny corpus in the layout that prepare.py reads;
                 the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestra.data import program
from orchestra.data.problems import Problem
from orchestra.tasks import TaskInfo, discover
from orchestra.wire.builtin import builtin_folder
from orchestra.wire.errors import NotFoundError, UsageError

OWN = (
    ("digits", False, "recordings named {digit}_{speaker}_{take}.wav, joined to connected digits"),
    ("librispeech", True, "LibriSpeech's folder layout, real or spoken by eSpeak NG"),
)
"""Name, whether it can be made, and what it is, of the corpora that no task has."""

Maker = Callable[[Path, int], None]
"""(root, seed): writes a tiny corpus below root."""


@dataclass(frozen=True)
class Prepared:
    """What was found of a corpus."""

    splits: dict[str, list[dict[str, Any]]]
    """Lines of the manifests, by split; of some use only where there are no problems."""
    problems: list[Problem]


@dataclass(frozen=True)
class Corpus:
    """A corpus of a task."""

    name: str
    help: str
    task: str
    prepare: Callable[[Path, Path], Prepared]
    """(root, out): `out` is where the manifests will be, for relative paths."""
    make: Maker | None
    """Of a tiny one in its layout; None where there is none."""


@dataclass(frozen=True)
class Found:
    """All corpora of a workspace's and the built-in tasks."""

    corpora: dict[str, Corpus]
    broken: list[str]
    """Sentences on files that should name a corpus and can't be used."""


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="data corpora", description="List the corpora.")
    parser.add_argument(
        "--code", type=Path, default=builtin_folder(), help="folder of the tasks' code"
    )
    return program.run(parser, _work, argv)


def _work(arguments: argparse.Namespace) -> program.Outcome:
    found = find_corpora(arguments.code)
    for sentence in found.broken:
        program.say(sentence)
    return program.Outcome({"corpora": listed(found)})


def find_corpora(code: Path) -> Found:
    """The corpora of all tasks that are known in the workspace `code`."""
    corpora: dict[str, Corpus] = {}
    broken = []
    for task in discover(code).values():
        for path in sorted([*task.folder.glob("prepare.py"), *task.folder.glob("prepare_*.py")]):
            try:
                corpus = _read(task, path)
                if corpus.name in corpora:
                    other = corpora[corpus.name].task
                    raise UsageError(f"{path}: task {other!r} already has corpus {corpus.name!r}")
            except UsageError as error:
                broken.append(str(error))
            else:
                corpora[corpus.name] = corpus
    return Found(corpora, broken)


def unknown(name: str, found: Found, *, synth: bool = False) -> NotFoundError:
    """What to tell who asks for a corpus that is not there (that can't be made, with `synth`)."""
    corpora = [corpus for corpus in listed(found) if corpus["synth"] or not synth]
    names = [corpus["name"] for corpus in corpora]
    of_task = [corpus["name"] for corpus in corpora if corpus["task"] == name]
    near = of_task or get_close_matches(name, names, n=1)
    meant = " or ".join(map(repr, near))
    hint = f"did you mean {meant}?" if near else f"there are {', '.join(names)}"
    what = "to be made" if synth else "to be read"
    return NotFoundError("; ".join([f"no corpus {name!r} {what}: {hint}", *found.broken]))


def listed(found: Found) -> list[dict[str, Any]]:
    """{name, task, synth, help} of every corpus, by name; `synth`: it can be made."""
    own: list[dict[str, Any]] = [
        {"name": name, "task": None, "synth": synth, "help": help_} for name, synth, help_ in OWN
    ]
    of_tasks = [
        {"name": each.name, "task": each.task, "synth": each.make is not None, "help": each.help}
        for each in found.corpora.values()
    ]
    return sorted([*own, *of_tasks], key=lambda corpus: str(corpus["name"]))


def faults(prepared: Prepared) -> list[Problem]:
    """The problems found, and those that any corpus can have."""
    problems = list(prepared.problems)
    if not prepared.splits and not problems:
        problems.append(Problem("corpora without a split", "nothing was found"))
    for split, lines in prepared.splits.items():
        if not lines and not prepared.problems:
            problems.append(Problem("splits without an utterance", split))
        counts = Counter(line["id"] for line in lines)
        problems += [
            Problem("ids that stand more than once", f"{id_} (split {split!r})")
            for id_, count in counts.items()
            if count > 1
        ]
    return problems


def _read(task: TaskInfo, path: Path) -> Corpus:
    """The corpus that a file declares (UsageError: it does not, or it can't be imported)."""
    module = task.module(path.stem)
    for name, kind in (("CORPUS", str), ("HELP", str)):
        if not isinstance(getattr(module, name, None), kind):
            raise UsageError(f"{path}: no text {name}")
    make = None
    if path.stem == "prepare" and (task.folder / "tiny.py").is_file():
        make = _function(task.module("tiny"), "make", task.folder / "tiny.py")
    prepare = _function(module, "prepare", path)
    return Corpus(module.CORPUS, module.HELP, task.name, prepare, make)


def _function(module: ModuleType, name: str, path: Path) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{path}: no function {name}")
    found: Callable[..., Any] = function
    return found


if __name__ == "__main__":
    sys.exit(main())
