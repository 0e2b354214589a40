"""Savers for tests: with a recorder that remembers, and disks that fail on demand."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from orchestra.config.schema import CheckpointConfig
from orchestra.train import checkpoint
from orchestra.train.checkpoint import Contents
from orchestra.train.goals import Goal
from orchestra.train.recorder import Recorder
from orchestra.train.saving import Export, Saver
from orchestra.wire import checkpoints
from orchestra.wire.checkpoints import silently

FULL = OSError(errno.ENOSPC, "No space left on device")
PATIENCE_S = 60.0


class Told:
    """A recorder that remembers; only the thread that made it may write."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[dict[str, Any]] = []
        self.notices: list[str] = []
        self._thread = threading.get_ident()

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        assert kind == "checkpoint"
        assert threading.get_ident() == self._thread
        self.steps.append(step)
        self.values.append(values)

    def notice(self, step: int, text: str) -> None:
        assert threading.get_ident() == self._thread
        self.notices.append(text)


def contents(value: float = 0.0) -> Contents:
    return Contents({"w": torch.full((64,), value)}, {"w/step": torch.tensor(value)}, {})


def saver(
    root: Path,
    told: Told | None = None,
    export: Export | None = None,
    beat: Callable[[], None] = silently,
    **config: Any,
) -> Saver:
    goal = Goal("acc", config.pop("direction", "max"))
    recorder = cast(Recorder, told or Told())
    return Saver(root, CheckpointConfig(every=1, **config), goal, recorder, beat, export)


def fail(monkeypatch: pytest.MonkeyPatch, error: OSError, times: int = 1) -> None:
    """The next so many files of a checkpoint can't be written."""
    write, left = checkpoint._write_durably, iter(range(times))

    def failing(path: Path, pieces: Any, tick: Any) -> tuple[int, str]:
        if next(left, None) is not None:
            raise error
        return write(path, pieces, tick)

    monkeypatch.setattr(checkpoint, "_write_durably", failing)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def steps(root: Path) -> list[int]:
    return sorted(map(checkpoints.step_of, checkpoints.committed(root)))


def wait_for(keeper: Saver) -> None:
    """Until the save that is under way has ended, well or not."""
    assert keeper._under_way is not None
    keeper._under_way.done.exception(PATIENCE_S)
