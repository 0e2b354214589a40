"""Interrupted == uninterrupted, bit for bit: weights, optimizer, progress, consumed samples.

Real ranks under torchrun, real SIGKILLs; every guarantee has a control that must break it. This is
the quick part, test_grid.py goes through all worlds, workers and moments.
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


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose last rank was killed in its 7th step; it has a checkpoint of the
    5th."""
    job = write_job(tmp_path_factory.mktemp("killed") / "run")
    kill = Kill(RANKS - 1, step=6, batch=1, once_saved=5)
    assert launch(job, ranks=RANKS, kill=kill) != 0
    assert Result.read(job.attempt(1)) is None
    return job.folder


def resumed(killed: Path, folder: Path, *, workers: int = 0, alter: str = "") -> Job:
    """A second attempt on a copy of the killed run."""
    job = Job("train", Path(shutil.copytree(killed, folder / "run")))
    text = job.config.read_text()
    assert "workers = 0" in text
    job.config.write_text(text.replace("workers = 0", f"workers = {workers}"))
    assert launch(job, ranks=RANKS, attempt=2, alter=alter) == 0, log_of(job, 2)
    assert min(trained_on(job, 2)) == 5, "it did not continue from the newest checkpoint"
    return job


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact(straight: Straight, killed: Path, tmp_path: Path, workers: int) -> None:
    job = resumed(killed, tmp_path, workers=workers)
    assert final_state(job) == final_state(straight(RANKS))
    assert Result.read(job.attempt(2)) == Result("completed", 12)
    assert consumed(job) == consumed(straight(RANKS))


@pytest.mark.parametrize("guarantee", ["warm-up", "reseeding"])
def test_control_without_it_resume_differs(
    straight: Straight, killed: Path, tmp_path: Path, guarantee: str
) -> None:
    job = resumed(killed, tmp_path, alter=f"no-{guarantee}")
    assert final_state(job) != final_state(straight(RANKS))
    assert consumed(job) == consumed(straight(RANKS))


def test_kill_in_save_then_resume_is_exact(straight: Straight, tmp_path: Path) -> None:
    job = write_job(tmp_path / "run")
    assert launch(job, ranks=1, alter="kill-in-save:8") != 0
    assert not job.run.checkpoint(8).exists()
    assert list(job.run.checkpoints.glob(".writing-*"))
    assert launch(job, ranks=1, attempt=2) == 0, log_of(job, 2)
    assert final_state(job) == final_state(straight(1))
    assert consumed(job) == consumed(straight(1))
    assert not list(job.run.checkpoints.glob(".writing-*"))
