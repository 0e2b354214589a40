"""Fifty SIGKILLs at seeded random places of one run, which must not change its result.

Three kinds: a rank in a random micro-batch; any process (launcher, rank, loader worker) or all of
them at a random time after the start, mostly while it imports or joins; the same in a save. The
times are random, what else runs on the machine moves them; the result may not depend on it.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra.supervise import tree
from orchestra.wire.folders import Job
from orchestra.wire.job import Result
from tests.exactness.conftest import CELL, Straight
from tests.exactness.launching import (
    PATIENCE_S,
    Kill,
    consumed,
    final_state,
    launch,
    log_of,
    started,
    trained_on,
    write_job,
)

pytestmark = [pytest.mark.slow, pytest.mark.exactness, pytest.mark.xdist_group("random kills")]

RANKS, STEPS, KILLS = 3, 40, 50
TABLES = {
    "train": {"max_steps": STEPS, "eval_every": 7},
    "checkpoint": {"every": 2},
    "data": {"workers": 1},
}
START_S = 4.0
"""About what an attempt takes to its first step."""


def test_fifty_random_kills(
    straight: Straight, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    draw = random.Random(50)
    job = write_job(tmp_path / "run", **TABLES)
    hit: Counter[str] = Counter()
    for attempt in range(1, KILLS + 1):
        left_before = _unfinished_saves(job)
        _killed_attempt(job, attempt, draw)
        assert Result.read(job.attempt(attempt)) is None
        if _unfinished_saves(job) - left_before:
            hit["in a save"] += 1
        else:
            hit["in training" if trained_on(job, attempt) else "before the first step"] += 1
    moments = ", ".join(f"{count} {moment}" for moment, count in sorted(hit.items()))
    record_property(CELL, f"ranks {RANKS}  random kills: {moments}")
    assert launch(job, ranks=RANKS, attempt=KILLS + 1) == 0, log_of(job, KILLS + 1)
    assert len(consumed(job)) == STEPS
    whole = straight(RANKS, **TABLES)
    assert consumed(job) == consumed(whole)
    assert final_state(job, STEPS) == final_state(whole, STEPS)


def _killed_attempt(job: Job, attempt: int, draw: random.Random) -> None:
    """One attempt that a SIGKILL ends; what is meant to hit later dies at its frontier at last,
    so that the run can't end before all attempts are through."""
    frontier = attempt * (STEPS - 1) // KILLS
    kind = draw.choice(["batch", "time", "save"])
    delay_s = START_S * draw.random() if kind == "time" else 0.01 * draw.random()
    rank, batch, everyone = draw.randrange(RANKS), draw.randrange(2), draw.random() < 0.25
    at_last = Kill(rank, frontier, batch)
    if kind == "batch":
        newest = _newest_step(job)
        at_last = Kill(rank, draw.randint(newest, frontier), batch, everyone=everyone)
    with started(job, ranks=RANKS, attempt=attempt, kill=at_last) as (process, tag):
        if kind == "save":
            _wait_for_a_save(job, process)
        if kind != "batch":
            _kill_after(delay_s, process, tag, draw, everyone)
        process.wait(PATIENCE_S)
    assert process.returncode != 0, log_of(job, attempt)


def _kill_after(
    delay_s: float,
    process: subprocess.Popen[bytes],
    tag: str,
    draw: random.Random,
    everyone: bool,
) -> None:
    time.sleep(delay_s)
    if everyone:
        tree.sweep(tag, PATIENCE_S)
    elif alive := tree.tagged(tag):
        victim = draw.choice(alive)
        tree.kill(victim, tag)
        if victim.pid == process.pid:
            tree.sweep(tag, PATIENCE_S)  # as the supervisor does: here nobody dies with it


def _wait_for_a_save(job: Job, process: subprocess.Popen[bytes]) -> None:
    """Until a checkpoint is being written, or the attempt has ended."""
    deadline = time.monotonic() + PATIENCE_S
    left_before = _unfinished_saves(job)
    while process.poll() is None and not _unfinished_saves(job) - left_before:
        assert time.monotonic() < deadline, log_of(job)
        time.sleep(0.001)


def _unfinished_saves(job: Job) -> set[Path]:
    """Folders that are being written, or were when their writer died."""
    return set(job.run.checkpoints.glob(".writing-*"))


def _newest_step(job: Job) -> int:
    """Of the checkpoint that the next attempt resumes from."""
    found = [int(path.name.removeprefix("step-")) for path in job.run.checkpoints.glob("step-*")]
    return max(found, default=0)
