"""The config that a task is checked with, on its tiny corpus or on data that the user names."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestra.config.compose import Composed, Flag, Request, compose
from orchestra.config.presets import list_presets
from orchestra.tasks import TaskInfo, find_task

_HERE = {"launch.device": "cpu", "data.workers": 0, "cache.features": False, "seed": 0}
"""How a task is looked at, whatever its presets say."""

_NEEDED = {
    "batch.seconds": 20.0,
    "batch.max_micro_seconds": 20.0,
    "optim.lr": 1e-3,
    "train.max_steps": 4,
    "train.eval_every": 4,
    "checkpoint.every": 4,
}
"""What a config must have and a task without a preset does not say."""


@dataclass(frozen=True)
class Planned:
    """A check about to start."""

    composed: Composed
    makes_corpus: bool
    """Whether the task's tiny corpus is to be made, where the config says that data are."""

    def command(self, config: Path, code: Path) -> list[str]:
        """The program, once the config lies in `config`."""
        return [
            *(sys.executable, "-P", "-m", "orchestra.check"),
            *("--config", os.fspath(config), "--code", os.fspath(code)),
            *(("--make-corpus",) if self.makes_corpus else ()),
        ]


def plan_check(
    name: str,
    workspace: Path,
    folder: Path,
    *,
    presets: tuple[str, ...] = (),
    upstream: str | None = None,
    sets: tuple[str, ...] = (),
) -> Planned:
    """Check a task with its preset NAME-tiny, where there is one, and fbank.

    Args:
        folder: an empty one, for the task's tiny corpus; it is made unless the task has no
            tiny.py, or a preset or `sets` say where data are.

    Raises:
        NotFoundError: there is no such task.
        UsageError, ConfigErrors: its config can't be used.
    """
    task = find_task(name, workspace)
    known = {preset.name for preset in list_presets(workspace)}
    tiny = f"{task.name}-tiny"
    chosen = presets or ((tiny,) if tiny in known else ())
    values: dict[str, object] = {**_HERE}
    if task.name not in known and not chosen:
        values |= _NEEDED
    makes = not presets and _can_make(task) and not _names_data(sets)
    if makes:
        values |= {"data.root": str(folder / "corpus"), "data.manifests": str(folder / "manifests")}
    flags = tuple(Flag(key, value, "task check") for key, value in values.items())
    request = Request(workspace, task.name, chosen, upstream or "fbank", flags, sets)
    return Planned(compose(request), makes)


def _can_make(task: TaskInfo) -> bool:
    return all((task.folder / name).is_file() for name in ("tiny.py", "prepare.py"))


def _names_data(sets: tuple[str, ...]) -> bool:
    return any(text.startswith(("data.root", "data.manifests")) for text in sets)
