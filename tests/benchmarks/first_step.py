"""`orchestra run` to the first optimizer step, against torchrun of the run's own command."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path

from orchestra.wire.folders import RunFolder
from orchestra.wire.heartbeat import pages_folder, read_beats
from orchestra.wire.job import Attempt
from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import ORCHESTRA, fresh_workspace, orchestra, plain_copy

PAIRS = 5
_LONGEST_S = 120.0
RUN = ["run", "example", "--cpu", "--nproc", "2", "--quiet", "--detach"]


def measure() -> list[Row]:
    with fresh_workspace() as workspace:
        _run_to_first_step(workspace)  # warms the page cache and lays out the snapshot
        ours, plain = [], []
        for _ in range(PAIRS):
            took_s, run_id = _run_to_first_step(workspace)
            ours.append(took_s)
            plain.append(_torchrun_to_first_step(workspace, run_id))
    ours_s, plain_s = statistics.median(ours), statistics.median(plain)
    return [
        Row(
            "`run` to first optimizer step",
            f"{ours_s:.2f} s; plain torchrun {plain_s:.2f} s; difference {ours_s - plain_s:+.2f} s",
            "<= torchrun + 0.5 s",
            f"2 CPU ranks, median of {PAIRS} pairs in turn",
        )
    ]


def _run_to_first_step(workspace: Path) -> tuple[float, str]:
    started = time.perf_counter()
    answer = subprocess.run(
        [ORCHESTRA, *RUN], cwd=workspace, check=True, capture_output=True, text=True
    )
    run_id = answer.stdout.strip()
    folder = RunFolder(workspace / "runs" / run_id)
    deadline = time.perf_counter() + _LONGEST_S
    while not folder.job.attempt(1).attempt.exists():
        _pause(deadline)
    _wait_for_step(pages_folder(Attempt.read(folder.job.attempt(1)).tag), deadline)
    took_s = time.perf_counter() - started
    orchestra(workspace, "stop", run_id, "--now")
    return took_s, run_id


def _torchrun_to_first_step(workspace: Path, run_id: str) -> float:
    """The printed command on a copy of the run's folder without its history."""
    command, copy = plain_copy(workspace, run_id)
    pages = pages_folder(f"{copy.id}.1.plain")
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=workspace,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as torchrun:
        _wait_for_step(pages, started + _LONGEST_S)
        took_s = time.perf_counter() - started
        torchrun.send_signal(signal.SIGTERM)
    shutil.rmtree(copy.path)
    shutil.rmtree(pages, ignore_errors=True)
    return took_s


def _wait_for_step(pages: Path, deadline: float) -> None:
    while not any(beat.step >= 1 for beat in read_beats(pages)):
        _pause(deadline)


def _pause(deadline: float) -> None:
    if time.perf_counter() > deadline:
        raise TimeoutError(f"no first step after {_LONGEST_S:g} s")
    os.sched_yield()
    time.sleep(0.002)
