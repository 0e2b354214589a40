"""Interrupted == uninterrupted, bit for bit: weights, optimizer, progress, consumed samples.

Real ranks under torchrun, real SIGKILLs; every guarantee has a control that must break it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestra.wire.folders import Job
from orchestra.wire.job import Result
from tests.exactness.launching import consumed, final_state, launch, log_of, write_job

pytestmark = pytest.mark.slow

# Three ranks: with two the order of sums can't show (a + b = b + a). Each has two micro-batches a
# step; batch 15 (0 and 1 are the warm-up's) is the 2nd of step 7, after the checkpoint at 5.
RANKS = 3
KILL = {"PROBE_KILL": "2:15"}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A run of 12 steps that nothing disturbs, and the folder of what it consumed."""
    folder = tmp_path_factory.mktemp("straight")
    job = write_job(folder / "run")
    assert launch(job, ranks=RANKS, environment={"PROBE_LOG": str(folder)}) == 0, log_of(job)
    return job, folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run after its last rank was killed in the 7th step."""
    job = write_job(tmp_path_factory.mktemp("killed") / "run")
    assert launch(job, ranks=RANKS, environment=KILL) != 0
    assert Result.read(job.attempt(1)) is None
    assert not job.run.checkpoint(8).exists(), "killed too late to prove anything"
    return job.folder


def resumed(killed: Path, folder: Path, *, workers: int = 0, alter: str | None = None) -> Job:
    """A second attempt on a copy of the killed run."""
    job = Job("train", Path(shutil.copytree(killed, folder / "run")))
    text = job.config.read_text()
    assert "workers = 0" in text
    job.config.write_text(text.replace("workers = 0", f"workers = {workers}"))
    logs = {"PROBE_LOG": str(folder)}
    status = launch(job, ranks=RANKS, attempt=2, alter=alter, environment=logs)
    assert status == 0, log_of(job, 2)
    return job


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact(
    straight: tuple[Job, Path], killed: Path, tmp_path: Path, workers: int
) -> None:
    job = resumed(killed, tmp_path, workers=workers)
    assert final_state(job) == final_state(straight[0])
    assert Result.read(job.attempt(2)) == Result("completed", 12)
    start = job.attempt(2).records.read_text().splitlines()[0]
    assert '"step": 5' in start, "it did not continue from the newest checkpoint"
    for rank in range(RANKS):
        again = consumed(tmp_path, rank)
        assert again == consumed(straight[1], rank)[-len(again) :]
        assert len(again) == 2 * 7  # steps 6 to 12


@pytest.mark.parametrize("guarantee", ["warm-up", "reseeding"])
def test_control_without_it_resume_differs(
    straight: tuple[Job, Path], killed: Path, tmp_path: Path, guarantee: str
) -> None:
    job = resumed(killed, tmp_path, alter=f"no-{guarantee}")
    assert final_state(job) != final_state(straight[0])


def test_kill_in_save_then_resume_is_exact(tmp_path: Path) -> None:
    straight, job = write_job(tmp_path / "straight"), write_job(tmp_path / "run")
    assert launch(straight, ranks=1) == 0, log_of(straight)
    assert launch(job, ranks=1, alter="kill-in-save:5") != 0  # the second checkpoint's optimizer
    assert [path.name for path in job.run.checkpoints.glob("step-*")] == ["step-00000004"]
    assert launch(job, ranks=1, attempt=2) == 0
    assert final_state(job) == final_state(straight)
    assert not list(job.run.checkpoints.glob(".writing-*"))
