"""Interrupted == uninterrupted, bit for bit: weights, optimizer, progress, consumed samples.

Real ranks, under torchrun too, real SIGKILLs; every guarantee has a control that must break it.
This is the quick part, test_grid.py goes through all worlds, workers and moments.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestra.wire.folders import Job
from orchestra.wire.job import Result
from tests.exactness.conftest import Straight
from tests.exactness.launching import (
    Kill,
    consumed,
    final_state,
    launch,
    log_of,
    trained_on,
    write_job,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("resume")]

# With two ranks the order of sums can't show (a + b = b + a).
RANKS = 3


def test_resume_is_exact(straight: Straight, tmp_path: Path) -> None:
    """Killed without loader workers, resumed with two: they may not show either."""
    job = write_job(tmp_path / "run")
    kill = Kill(RANKS - 1, step=6, batch=1, once_saved=5)
    assert launch(job, ranks=RANKS, kill=kill, torchrun=False) != 0
    assert Result.read(job.attempt(1)) is None
    text = job.config.read_text()
    assert "workers = 0" in text
    job.config.write_text(text.replace("workers = 0", "workers = 2"))
    assert launch(job, ranks=RANKS, attempt=2) == 0, log_of(job, 2)
    assert min(trained_on(job, 2)) == 5, "it did not continue from the newest checkpoint"
    assert Result.read(job.attempt(2)) == Result("completed", 12)
    assert final_state(job) == final_state(straight(RANKS))
    assert consumed(job) == consumed(straight(RANKS))


@pytest.mark.parametrize(
    ("guarantee", "ranks"),
    [
        # Only a group of ranks has buckets that a throw-away step can warm up.
        pytest.param("warm-up", RANKS, marks=pytest.mark.exactness),
        ("reseeding", 1),
    ],
)
def test_control_without_it_resume_differs(
    straight: Straight, tmp_path: Path, guarantee: str, ranks: int
) -> None:
    """Both runs are without it; that they differ is the interruption's doing alone."""
    alter = f"no-{guarantee}"
    whole = straight(ranks, alter, checkpoint={"keep_last": 9})
    job = rewound(whole, tmp_path / "run", step=5)
    assert launch(job, ranks=ranks, attempt=2, alter=alter) == 0, log_of(job, 2)
    assert min(trained_on(job, 2)) == 5
    assert consumed(job) == consumed(whole)
    assert final_state(job) != final_state(whole)


def rewound(whole: Job, folder: Path, *, step: int) -> Job:
    """A copy of a run as if it had been killed when the checkpoint of `step` was its newest."""
    job = Job("train", Path(shutil.copytree(whole.folder, folder)))
    for newer in range(step + 1, 13):
        shutil.rmtree(job.run.checkpoint(newer), ignore_errors=True)
    assert job.run.checkpoint(step).is_dir()
    return job


@pytest.mark.exactness
def test_kill_in_save_then_resume_is_exact(straight: Straight, tmp_path: Path) -> None:
    job = write_job(tmp_path / "run")
    assert launch(job, ranks=1, alter="kill-in-save:8") != 0
    assert not job.run.checkpoint(8).exists()
    assert list(job.run.checkpoints.glob(".writing-*"))
    assert launch(job, ranks=1, attempt=2) == 0, log_of(job, 2)
    assert final_state(job) == final_state(straight(1))
    assert consumed(job) == consumed(straight(1))
    assert not list(job.run.checkpoints.glob(".writing-*"))
