"""From SIGKILL of a rank to the next optimizer step: orchestra against torchrun's own restart.

Both run the same frozen command, two CPU ranks, and continue from a checkpoint. torchrun restarts
in place (`--max-restarts`), which it does not always survive: those trials are counted.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestra.wire.folders import RunFolder
from orchestra.wire.heartbeat import Beat, pages_folder, read_beats
from orchestra.wire.job import Attempt
from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import ORCHESTRA, fresh_workspace, orchestra, plain_copy

PAIRS = 8
_LONGEST_S = 60.0
_AFTER = 27  # steps; a checkpoint was saved at 25
RUN = [
    *("run", "example", "--cpu", "--nproc", "2", "--quiet", "--detach"),
    *("--set", "train.max_steps=100000", "--set", "train.eval_every=100000"),
    *("--set", "task.delay_s=0.02"),
]


def measure() -> list[Row]:
    ours: list[float] = []
    stock: list[float] = []
    failed = 0
    with fresh_workspace() as workspace:
        for trial in range(PAIRS + 1):  # the first one warms the page cache
            run_id = _start(workspace)
            took_s = _ours(workspace, run_id, victim=trial % 2)
            theirs_s = _stock(workspace, run_id, victim=trial % 2)
            if trial == 0:
                continue
            ours.append(took_s)
            if theirs_s is None:
                failed += 1
            else:
                stock.append(theirs_s)
    ours_s, stock_s = statistics.median(ours), statistics.median(stock)
    return [
        Row(
            "next optimizer step after a rank's SIGKILL, against torchrun's in-place restart",
            f"{ours_s / stock_s:.2f} x ({ours_s:.2f} against {stock_s:.2f} s)",
            "<= 1.0 x",
            f"2 CPU ranks, median of {PAIRS} pairs in turn",
        ),
        Row(
            "restarts that failed altogether: orchestra, torchrun",
            f"0 and {failed} of {PAIRS}",
            "",
            f"no step within {_LONGEST_S:g} s, or torchrun gave up",
        ),
    ]


def _start(workspace: Path) -> str:
    done = subprocess.run(
        [ORCHESTRA, *RUN], cwd=workspace, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _ours(workspace: Path, run_id: str, *, victim: int) -> float:
    job = RunFolder(workspace / "runs" / run_id).job
    _until(lambda: job.attempt(1).attempt.exists())
    before = _wait_for_steps(pages_folder(Attempt.read(job.attempt(1)).tag), _AFTER)
    started = _kill(before[victim])
    _until(lambda: job.attempt(2).attempt.exists())
    took_s = _next_step(pages_folder(Attempt.read(job.attempt(2)).tag), before, started)
    orchestra(workspace, "stop", run_id, "--now")
    assert took_s is not None, f"orchestra did not restart run {run_id}"
    return took_s


def _stock(workspace: Path, run_id: str, *, victim: int) -> float | None:
    """None where torchrun did not get to another step."""
    command, copy = plain_copy(workspace, run_id)
    command[command.index("--max-restarts") + 1] = "3"
    command[command.index("--attempt") + 1] = "1"
    pages = pages_folder(f"{copy.id}.1.plain")
    with subprocess.Popen(
        command,
        cwd=workspace,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as torchrun:
        before = _wait_for_steps(pages, _AFTER)
        started = _kill(before[victim])
        took_s = _next_step(pages, before, started, lambda: torchrun.poll() is None)
        _end(torchrun, copy)
    shutil.rmtree(copy.path)
    shutil.rmtree(pages, ignore_errors=True)
    return took_s


def _kill(victim: Beat) -> float:
    started = time.perf_counter()
    os.kill(victim.pid, signal.SIGKILL)
    return started


def _next_step(
    pages: Path,
    before: Sequence[Beat],
    started: float,
    alive: Callable[[], bool] = lambda: True,
) -> float | None:
    """Seconds until all of the new ranks have taken a step."""
    old = {beat.pid for beat in before}
    first: dict[int, int] = {}
    while time.perf_counter() < started + _LONGEST_S and alive():
        beats = [beat for beat in read_beats(pages) if beat.pid not in old and beat.step > 0]
        for beat in beats:
            first.setdefault(beat.rank, beat.step)
        if len(beats) == 2 and all(beat.step > first[beat.rank] for beat in beats):
            return time.perf_counter() - started
        _pause()
    return None


def _end(torchrun: subprocess.Popen[bytes], copy: RunFolder) -> None:
    torchrun.send_signal(signal.SIGTERM)
    try:
        torchrun.wait(40)
    except subprocess.TimeoutExpired:
        torchrun.kill()
    pages = pages_folder(f"{copy.id}.1.plain")
    for beat in read_beats(pages):  # what it may have left
        if Path(f"/proc/{beat.pid}").exists():
            os.kill(beat.pid, signal.SIGKILL)


def _wait_for_steps(pages: Path, steps: int) -> list[Beat]:
    _until(
        lambda: len(beats := read_beats(pages)) == 2 and all(beat.step >= steps for beat in beats)
    )
    return read_beats(pages)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + _LONGEST_S
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"it did not happen within {_LONGEST_S:g} s")
        _pause()


def _pause() -> None:
    time.sleep(0.002)
