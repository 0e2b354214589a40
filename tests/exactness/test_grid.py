"""The whole grid: worlds, loader workers and moments of a kill; the quick part is test_resume.py.

The uninterrupted run has no loader workers and one rhythm of checkpoints: neither may show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestra.wire.folders import Job
from orchestra.wire.job import Result
from tests.exactness.conftest import CELL, Straight
from tests.exactness.launching import (
    Kill,
    consumed,
    final_state,
    first_step,
    ids_of,
    launch,
    log_of,
    write_job,
)

pytestmark = [pytest.mark.slow, pytest.mark.exactness]

BATCH = {"micro_batches": 12}  # what 1, 2, 3 and 4 ranks can share, three or more for each


@dataclass(frozen=True)
class Interruption:
    """How a run is interrupted, and where it has to continue."""

    resumes_at: int
    every: int = 4
    """checkpoint.every"""
    kill: Kill | None = None
    alter: str = ""


def first_step_of_all(epoch: int, ranks: int) -> Interruption:
    return Interruption(0, kill=Kill(ranks - 1, step=0, batch=1))


def mid_epoch(epoch: int, ranks: int) -> Interruption:
    """In the step after a checkpoint that lies one step into the second epoch."""
    saved = epoch + 1
    return Interruption(saved, saved, Kill(ranks - 1, step=saved, batch=2, once_saved=saved))


def epoch_end(epoch: int, ranks: int) -> Interruption:
    """All processes at once, after a checkpoint between two epochs."""
    kill = Kill(0, step=epoch, batch=1, once_saved=epoch, everyone=True)
    return Interruption(epoch, epoch, kill)


def in_save(epoch: int, ranks: int) -> Interruption:
    """At step 8; that of the validation at step 5 is the newest whole one."""
    return Interruption(5, alter="kill-in-save:8")


Moment = Callable[[int, int], Interruption]
MOMENTS: dict[str, Moment] = {
    "first step": first_step_of_all,
    "mid-epoch": mid_epoch,
    "epoch end": epoch_end,
    "in a save": in_save,
}
CELLS = [(ranks, workers, moment) for ranks in (1, 3) for workers in (0, 2) for moment in MOMENTS]
CELLS += [(2, 0, "mid-epoch"), (4, 0, "mid-epoch")]


@pytest.mark.parametrize(
    ("ranks", "workers", "moment"),
    [pytest.param(*cell, marks=pytest.mark.xdist_group(f"ranks {cell[0]}")) for cell in CELLS],
)
def test_interrupted_is_uninterrupted(
    straight: Straight,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    ranks: int,
    workers: int,
    moment: str,
) -> None:
    record_property(CELL, f"ranks {ranks}  workers {workers}  {moment}")
    whole = straight(ranks, batch=BATCH)
    interruption = MOMENTS[moment](steps_of_first_epoch(whole), ranks)
    job = write_job(
        tmp_path / "run",
        batch=BATCH,
        data={"workers": workers},
        checkpoint={"every": interruption.every},
    )
    assert launch(job, ranks=ranks, alter=interruption.alter, kill=interruption.kill) != 0
    assert Result.read(job.attempt(1)) is None
    assert launch(job, ranks=ranks, attempt=2) == 0, log_of(job, 2)
    assert first_step(job, 2) == interruption.resumes_at
    assert consumed(job) == consumed(whole)
    assert final_state(job) == final_state(whole)


def steps_of_first_epoch(job: Job) -> int:
    """How many steps it takes until an utterance is seen again."""
    seen: set[str] = set()
    steps = consumed(job)
    for step in sorted(steps):
        if seen & set(ids_of(steps[step])):
            return step
        seen.update(ids_of(steps[step]))
    raise AssertionError("the run is shorter than an epoch")
