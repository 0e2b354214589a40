"""TensorBoard on some runs: a folder of links named by run and attempt, and the program on it.

The program is a child in the foreground; it and the folder go when the caller goes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from orchestra.registry.rows import RunRow
from orchestra.registry.store import open_registry
from orchestra.schedule.listing import find_run, list_runs
from orchestra.wire import lifeline
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.states import LIVE
from orchestra.workspace import Workspace

_LOOK_S = 2.0  # for attempts that are new
_GOODBYE_S = 5.0


def runs_meant(workspace: Workspace, references: Sequence[str]) -> list[RunRow]:
    """The runs named; without a name those that live, else the newest.

    Raises:
        NotFoundError: there is none, or a name means none or several.
    """
    if references:
        ids = dict.fromkeys(find_run(workspace, reference) for reference in references)
        with open_registry(workspace.runs) as registry:
            return [registry.get_run(run_id) for run_id in ids]
    found = list_runs(workspace, states=LIVE, limit=None)
    found = found or list_runs(workspace, states=None, limit=1)
    if not found:
        raise NotFoundError("there are no runs yet: start one with `orchestra run TASK`")
    return found


def serve(workspace: Workspace, runs: Sequence[RunRow], *, host: str, port: int | None) -> int:
    """Run TensorBoard until it ends, or KeyboardInterrupt; its exit code. It prints its address.

    Raises:
        UsageError: it is not installed.
        OrchestraError: it can't be started.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("TensorBoard is not installed here: `pip install tensorboard`")
    with (
        _signals_as_interrupts(),
        tempfile.TemporaryDirectory(prefix="orchestra-tensorboard-") as folder,
    ):
        links = Path(folder) / "runs"
        links.mkdir()
        link(links, workspace, runs)
        child = _start(links, host, port)
        try:
            while True:
                try:
                    return child.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    link(links, workspace, runs)
        finally:
            _end(child)


def link(folder: Path, workspace: Workspace, runs: Sequence[RunRow]) -> None:
    """Links `NAME/attempt-N` to what each attempt has for TensorBoard; those there are stay."""
    for run in runs:
        # Names in a registry that others wrote may be paths.
        name = run.name if re.fullmatch(r"[\w-][\w.-]*", run.name) else run.id
        for attempt in workspace.runs.run(run.id).job.attempts():
            place = folder / name / f"attempt-{attempt.number}"
            if attempt.tensorboard.is_dir() and not place.is_symlink():
                place.parent.mkdir(exist_ok=True)
                place.symlink_to(attempt.tensorboard, target_is_directory=True)


def _start(links: Path, host: str, port: int | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(links), "--host", host]
    # The fast loader is another process, which would stay when TensorBoard is killed.
    command += ["--load_fast", "false", "--reload_interval", "5"]
    command += [] if port is None else ["--port", str(port)]
    lifeline.announce(os.environ)
    # It leaves a folder in the one for temporary files.
    environment = {**os.environ, "TMPDIR": str(links.parent)}
    try:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            preexec_fn=lifeline.die_with_parent,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise OrchestraError(f"cannot start TensorBoard: {error}") from error


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()  # of one that has ended already, nothing happens
    try:
        child.wait(_GOODBYE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """A closed terminal and SIGTERM clean up as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
