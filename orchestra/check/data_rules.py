"""Rules on config and data: what a task says before anything is learnt."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch

from orchestra.check.compare import difference
from orchestra.check.mistakes import Violation
from orchestra.check.subject import FEW, Subject
from orchestra.data import SAMPLE_RATE
from orchestra.wire.errors import DataError

_LENGTH_TOLERANCE_S = 0.05
_LOUDEST = 10.0
"""Files of floats may go somewhat above 1; integers that were not scaled go far above."""
_NAMED = 3
_KEEP = "keep all that `learn` finds out in what it returns, and let `recall` take it over"

_NOT_FOR_RANKS = (
    *(f"orchestra.{part}." for part in ("cli", "tui", "registry", "provenance", "supervise")),
    *("orchestra.schedule.", "orchestra.gpu.", "typer.", "textual.", "sqlite_utils.", "git."),
)
"""What the training plane never imports."""


def config_is_light(subject: Subject) -> str:
    """config.py is read by every command: it must load no package but pydantic, and be a Config."""
    program = (
        "import sys; from pathlib import Path; from orchestra.tasks import TaskInfo; "
        "from orchestra.wire.errors import UsageError\n"
        "before = len(sys.modules)\n"
        "try: TaskInfo(sys.argv[1], Path(sys.argv[2]), builtin=False).config_model()\n"
        "except UsageError as error: sys.exit(str(error))\n"
        "loaded = dict.fromkeys(name.partition('.')[0] for name in [*sys.modules][before:])\n"
        "known = {*sys.stdlib_module_names, 'orchestra', 'orchestra_tasks'}\n"
        "print(*(name for name in loaded if name not in known))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, subject.config.task.kind, str(subject.folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Violation((done.stderr.strip() or "it ended silently").splitlines()[-1])
    loaded = done.stdout.split()
    if loaded:
        raise Violation(
            f"{subject.folder / 'config.py'} loads {_some(loaded)}: `orchestra tasks` and every "
            "other command would; import it in task.py alone"
        )
    return "loads pydantic alone"


def imports_are_for_ranks(subject: Subject) -> str:
    """No file imports the terminal, the registry or git: ranks load the task, and never these."""
    files = sorted(subject.folder.rglob("*.py"))
    for path in files:
        for line, name in _imported(ast.parse(path.read_bytes(), path.name)):
            if name.startswith(_NOT_FOR_RANKS):
                raise Violation(
                    f"{path.relative_to(subject.folder)}, line {line}: imports {name.rstrip('.')}: "
                    "a task knows of nothing but its data and its model"
                )
    return f"{len(files)} files"


def _imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and absolute name, with a dot behind, of what is imported; of `from a import b` a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, f"{each.name}.") for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{each.name}.") for each in node.names)


def ids_are_unique(subject: Subject) -> str:
    """Every utterance has an id of its own in its split, and lasts some time."""
    task, count = subject.new_task(), 0
    for split in subject.splits:
        utterances = subject.utterances(split, task)
        if not utterances:
            raise Violation(f"split {split!r} has no utterances")
        counts = Counter(utterance.id for utterance in utterances)
        twice = [name for name, times in counts.items() if times > 1]
        if twice:
            raise Violation(
                f"split {split!r}: ids must be unique, but {_some(twice)} stand more than once"
            )
        empty = [u.id for u in utterances if not 0 < u.duration_s < math.inf]
        if empty:
            raise Violation(f"split {split!r}: duration_s of {_some(empty)} is not above 0")
        count += len(utterances)
    return f"{count} ids in {len(subject.splits)} splits"


def splits_join(subject: Subject) -> str:
    """A split named "a+b" is a, then b (a task that makes its own data: wire.manifest.join)."""
    train, valid = ([u.id for u in each] for each in (subject.train, subject.valid))
    if set(train) & set(valid):
        return "not looked at: training and validation share utterances"
    name = f"{subject.config.data.train}+{subject.config.data.valid}"
    joint = [utterance.id for utterance in subject.utterances(name)]
    if joint != train + valid:
        raise Violation(
            f"split {name!r} has {len(joint)} utterances, not the {len(train)} and then the "
            f"{len(valid)} of its parts; let orchestra.wire.manifest.join take it apart"
        )
    return f"{name!r} is its parts"


def waveforms_are_16k_mono(subject: Subject) -> str:
    """`read` gives (samples,) float32 at 16 kHz, as long as the utterance, the same each time."""
    task = subject.new_task()
    for utterance in subject.few:
        wav = task.read(utterance)
        name = f"read({utterance.id!r})"
        if not isinstance(wav, np.ndarray):
            raise Violation(f"{name} gives a {type(wav).__name__}, not a NumPy array of float32")
        if wav.dtype != np.float32 or wav.ndim != 1:
            raise Violation(f"{name} gives {wav.dtype} {wav.shape}, not float32 (samples,)")
        seconds = len(wav) / SAMPLE_RATE
        if abs(seconds - utterance.duration_s) > _LENGTH_TOLERANCE_S:
            raise Violation(
                f"{name} gives {seconds:.2f} s at 16 kHz, but duration_s is "
                f"{utterance.duration_s:.2f}: batches are planned by it"
            )
        if not np.isfinite(wav).all():
            raise Violation(f"{name} gives NaN or infinite samples")
        if np.abs(wav).max(initial=0.0) > _LOUDEST:
            raise Violation(f"{name} gives samples up to {np.abs(wav).max():g}: scale to [-1, 1]")
        if not np.array_equal(wav, task.read(utterance)):
            raise Violation(
                f"{name} gives other samples the second time: draw augmentation from batch.seeds "
                "in `loss`, not while reading"
            )
    return f"{len(subject.few)} recordings"


def labels_can_be_used(subject: Subject) -> str:
    """Each label of each split can be learnt, or compared to; `target` gives None for none."""
    task, count = subject.new_task(), 0
    for split in subject.splits:
        for utterance in subject.utterances(split):
            try:
                task.target(utterance)
            except DataError as error:
                raise Violation(
                    f"split {split!r}: {error}: a run would end here; leave it out, or change it "
                    "in prepare.py"
                ) from error
            count += 1
    return f"{count} labels"


def learnt_survives_json(subject: Subject) -> str:
    """What `learn` gives comes back from JSON, and `recall` of it makes the same task."""
    try:
        text = json.dumps(subject.learnt, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Violation(f"learn() gives what JSON has no word for: {error}") from error
    differs = _changed(subject.learnt, json.loads(text))
    if differs:
        raise Violation(f"learn() gives what JSON changes: {differs}; give lists and text keys")
    straight = subject.task_class(subject.config.task, subject.config.data)
    given = list(subject.train)
    straight.recall(straight.learn(given))
    if given != subject.train:
        raise Violation("learn changes the utterances that it is given; work on a copy")
    again = subject.new_task()
    for utterance in subject.train[:FEW]:
        targets, fields = [], dict(utterance.fields)
        for task in (straight, again):
            try:
                targets.append(_plain(task.target(utterance)))
            except DataError as error:
                raise Violation(f"target after recall: {error}; {_KEEP}") from error
            if utterance.fields != fields:
                raise Violation(f"target changes the fields of {utterance.id}; work on a copy")
        differs = difference(*targets)
        if differs:
            raise Violation(f"target of {utterance.id} {differs} after recall: {_KEEP}")
    return f"{len(text)} bytes"


def _changed(one: Any, other: Any) -> str | None:
    """Exactly: a tuple that comes back as a list is told too."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f"keys {list(one)[:_NAMED]} became {list(other)[:_NAMED]}"
        return next(filter(None, (_changed(one[key], other[key]) for key in one)), None)
    if type(one) is not type(other):
        return f"a {type(one).__name__} became a {type(other).__name__}"
    if isinstance(one, list):
        return next(filter(None, map(_changed, one, other)), None)
    return difference(one, other)


def _plain(value: Any) -> Any:
    """A target as JSON values, whatever a task makes of it."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
