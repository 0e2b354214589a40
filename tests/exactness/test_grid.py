"""The whole grid: worlds, loader workers and moments of a kill; the quick part is test_resume.py.

The uninterrupted run has no loader workers and one rhythm of checkpoints: neither may show.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra.wire.folders import Job
from tests.exactness.conftest import CELL, Straight
from tests.exactness.launching import (
    Interruption,
    Kill,
    consumed,
    final_state,
    ids_of,
    interrupted,
    predicted,
    write_job,
)

pytestmark = [pytest.mark.slow, pytest.mark.exactness]

BATCH = {"micro_batches": 12}  # what 1, 2, 3 and 4 ranks can share, three or more for each


def first_step(epoch: int, ranks: int) -> tuple[int, Interruption]:
    return 4, Interruption(0, Kill(ranks - 1, step=0, batch=1))


def mid_epoch(epoch: int, ranks: int) -> tuple[int, Interruption]:
    """After a checkpoint that lies one step into the second epoch."""
    saved = epoch + 1
    kill = Kill(ranks - 1, step=saved, batch=2, once_saved=saved)
    return saved, Interruption(saved, kill)


def epoch_end(epoch: int, ranks: int) -> tuple[int, Interruption]:
    """All processes at once, after a checkpoint between two epochs."""
    kill = Kill(0, step=epoch, batch=1, once_saved=epoch, everyone=True)
    return epoch, Interruption(epoch, kill)


def in_save(epoch: int, ranks: int) -> tuple[int, Interruption]:
    """At step 8; that of the validation at step 5 is the newest whole one."""
    return 4, Interruption(5, alter="kill-in-save:8")


Moment = Callable[[int, int], tuple[int, Interruption]]
"""Steps of the first epoch, number of ranks -> checkpoint.every, interruption."""

MOMENTS: dict[str, Moment] = {
    "first step": first_step,
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
    every, interruption = MOMENTS[moment](steps_of_first_epoch(whole), ranks)
    tables = {"data": {"workers": workers}, "checkpoint": {"every": every}}
    job = write_job(tmp_path / "run", batch=BATCH, **tables)
    interrupted(job, ranks, interruption)
    assert consumed(job) == consumed(whole)
    assert final_state(job) == final_state(whole)
    assert predicted(job) == predicted(whole)


def steps_of_first_epoch(job: Job) -> int:
    """How many steps it takes until an utterance is seen again."""
    seen: set[str] = set()
    steps = consumed(job)
    for step in sorted(steps):
        if seen & set(ids_of(steps[step])):
            return step
        seen.update(ids_of(steps[step]))
    raise AssertionError("the run is shorter than an epoch")
