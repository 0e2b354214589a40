"""Rules on config and data: what a task says before anything is learnt."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch

from orchestra.check.compare import difference
from orchestra.check.subject import Subject, Violation
from orchestra.data import SAMPLE_RATE

_HEAVY = ("torch", "numpy", "transformers", "soundfile")
_LENGTH_TOLERANCE_S = 0.05
_NAMED = 3


def config_is_light(subject: Subject) -> str:
    """config.py is read by every command: it must load without torch, and be a Config."""
    program = (
        "import sys; from pathlib import Path; from orchestra.tasks import TaskInfo; "
        "from orchestra.wire.errors import UsageError\n"
        "try: TaskInfo(sys.argv[1], Path(sys.argv[2]), builtin=False).config_model()\n"
        "except UsageError as error: sys.exit(str(error))\n"
        f"print(*(name for name in {_HEAVY!r} if name in sys.modules))"
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
    if done.stdout.strip():
        raise Violation(
            f"{subject.folder / 'config.py'} loads {done.stdout.strip()}: `orchestra tasks` and "
            "every other command would; import it in task.py alone"
        )
    return "loads pydantic alone"


def ids_are_unique(subject: Subject) -> str:
    """Every utterance has an id of its own in its split, and lasts some time."""
    task, count = subject.new_task(), 0
    for split in subject.splits:
        utterances = task.utterances(split)
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
    task = subject.new_task()
    train, valid = ([u.id for u in each] for each in (subject.train, subject.valid))
    if set(train) & set(valid):
        return "not looked at: training and validation share utterances"
    name = f"{subject.config.data.train}+{subject.config.data.valid}"
    joint = [utterance.id for utterance in task.utterances(name)]
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
        if not np.array_equal(wav, task.read(utterance)):
            raise Violation(
                f"{name} gives other samples the second time: draw augmentation from batch.seeds "
                "in `loss`, not while reading"
            )
    return f"{len(subject.few)} recordings"


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
    straight.recall(straight.learn(subject.train))
    again = subject.new_task()
    for utterance in subject.few:
        targets = (_plain(task.target(utterance)) for task in (straight, again))
        differs = difference(*targets)
        if differs:
            raise Violation(
                f"target of {utterance.id} {differs} after recall: keep all that `learn` finds "
                "out in what it returns"
            )
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
