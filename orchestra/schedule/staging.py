"""A run folder in the making: it appears under its id whole, or not at all.

Built as `runs/.new-<id>` and renamed. Everything that builds holds a shared lock, so that `gc`
(which takes it exclusively) never removes what somebody is about to use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from orchestra.schedule.names import draw_id
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunFolder, RunsFolder

PREFIX = ".new-"


class Stage:
    """One run folder in the making."""

    def __init__(self, runs: RunsFolder, run_id: str) -> None:
        self.run_id = run_id
        self.folder = RunFolder(runs.path / f"{PREFIX}{run_id}")
        self._final = runs.run(run_id)

    def publish(self) -> RunFolder:
        """Give the folder its id; from here on it is a run."""
        try:
            self.folder.path.rename(self._final.path)
        except OSError as error:
            raise OrchestraError(f"cannot make {self._final.path}: {error.strerror}") from error
        return self._final

    def discard(self) -> None:
        """Remove the folder, published or not."""
        for path in (self.folder.path, self._final.path):
            shutil.rmtree(path, ignore_errors=True)


def new_stage(runs: RunsFolder) -> Stage:
    """An empty folder with a fresh id (OrchestraError if it can't be made)."""
    while True:
        stage = Stage(runs, draw_id())
        if stage.folder.path.exists() or runs.run(stage.run_id).path.exists():
            continue
        try:
            stage.folder.path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise OrchestraError(
                f"cannot write run folders into {runs.path}: {error.strerror}"
            ) from error
        return stage


@contextlib.contextmanager
def building(runs: RunsFolder) -> Iterator[None]:
    """Hold off `gc` while something is built from snapshots or staged."""
    with _locked(runs, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def nobody_builds(runs: RunsFolder) -> Iterator[None]:
    """Wait until nothing is being built, and keep it so."""
    with _locked(runs, fcntl.LOCK_EX):
        yield


def make_runs_folder(runs: RunsFolder) -> None:
    """Make the runs folder if need be (OrchestraError)."""
    try:
        runs.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OrchestraError(f"cannot make {runs.path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(runs: RunsFolder, kind: int) -> Iterator[None]:
    path: Path = runs.path / ".build.lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OrchestraError(f"cannot write to {runs.path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        os.close(fd)
