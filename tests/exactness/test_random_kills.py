"""Fifty SIGKILLs at seeded random moments of one run, which must not change its result.

Their kinds are dealt out beforehand. A rank kills itself in the middle of a file of a checkpoint,
before its first step, or in a random micro-batch: that it hit there is asserted. The rest hit any
process (launcher, rank, loader worker) or all of them at a random time after the start.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

RANKS, STEPS = 3, 40
SAVE, START, BATCH, ANY_TIME = "in a save", "before the first step", "in training", "at any time"
KINDS = {SAVE: 10, START: 10, BATCH: 15, ANY_TIME: 15}
KILLS = sum(KINDS.values())
EVERY = 2
TABLES: dict[str, dict[str, Any]] = {
    "train": {"max_steps": STEPS, "eval_every": 7},
    "checkpoint": {"every": EVERY},
    "data": {"workers": 1},
}
START_S = 4.0
"""About what an attempt takes to its first step."""


@dataclass(frozen=True)
class Plan:
    """How an attempt dies: by what is put into its ranks, or from outside after `delay_s`."""

    kill: Kill | None = None
    alter: str = ""
    delay_s: float | None = None


def test_fifty_random_kills(
    straight: Straight, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    draw = random.Random(50)
    kinds = draw.sample(list(KINDS), KILLS, counts=list(KINDS.values()))
    job = write_job(tmp_path / "run", **TABLES)
    hit: Counter[str] = Counter()
    for attempt, kind in enumerate(kinds, start=1):
        left_before = _unfinished_saves(job)
        frontier = max(attempt * (STEPS - 1) // KILLS, _newest_step(job))
        _killed_attempt(job, attempt, _plan(kind, job, frontier, draw), draw)
        assert Result.read(job.attempt(attempt)) is None
        moments = {BATCH if trained_on(job, attempt) else START}
        moments |= {SAVE} if _unfinished_saves(job) - left_before else set()
        assert kind in (*moments, ANY_TIME), f"attempt {attempt}: {kind}, but it died {moments}"
        hit.update(moments)
    last = len(kinds) + 1
    told = ", ".join(f"{hit[moment]} {moment}" for moment in (SAVE, START, BATCH))
    record_property(CELL, f"ranks {RANKS}  random kills: {told}")
    assert launch(job, ranks=RANKS, attempt=last) == 0, log_of(job, last)
    assert len(consumed(job)) == STEPS
    whole = straight(RANKS, **TABLES)
    assert consumed(job) == consumed(whole)
    assert final_state(job, STEPS) == final_state(whole, STEPS)


def _plan(kind: str, job: Job, frontier: int, draw: random.Random) -> Plan:
    """What is meant to hit from outside dies at its frontier at last, so that the run can't end
    before all attempts are through."""
    newest, rank = _newest_step(job), draw.randrange(RANKS)
    if kind == SAVE:
        return Plan(alter=f"kill-in-save:{newest - newest % EVERY + EVERY}")
    if kind == START:
        return Plan(alter=f"kill-in-{draw.choice(['start', 'warm-up'])}:{rank}")
    if kind == BATCH:
        step, everyone = draw.randint(newest, frontier), draw.random() < 0.25
        return Plan(Kill(rank, step, draw.randrange(2), everyone=everyone))
    return Plan(Kill(rank, frontier, draw.randrange(2)), delay_s=START_S * draw.random())


def _killed_attempt(job: Job, attempt: int, plan: Plan, draw: random.Random) -> None:
    dying = started(job, ranks=RANKS, attempt=attempt, alter=plan.alter, kill=plan.kill)
    with dying as (process, tag):
        if plan.delay_s is not None:
            _kill_after(plan.delay_s, process, tag, draw, everyone=draw.random() < 0.25)
        process.wait(PATIENCE_S)
    assert process.returncode != 0, log_of(job, attempt)


def _kill_after(
    delay_s: float,
    process: subprocess.Popen[bytes],
    tag: str,
    draw: random.Random,
    *,
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


def _unfinished_saves(job: Job) -> set[Path]:
    """Folders that are being written, or were when their writer died."""
    return set(job.run.checkpoints.glob(".writing-*"))


def _newest_step(job: Job) -> int:
    """Of the checkpoint that the next attempt resumes from."""
    found = [int(path.name.removeprefix("step-")) for path in job.run.checkpoints.glob("step-*")]
    return max(found, default=0)
