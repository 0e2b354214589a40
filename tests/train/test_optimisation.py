"""A resumed run has the averages, the loss scale and the trained parts of one that went through."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.train import checkpoint, learner
from orchestra.train.average import Average
from orchestra.train.step import Stepper
from orchestra.wire import checkpoints
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE
from tests.exactness.launching import WORKSPACE, final_state, write_job
from tests.train.running import run_here

UNFROZEN_AT = 4
STEPS = 8
SETTINGS: dict[str, dict[str, Any]] = {
    "optim": {
        "kind": "adafactor",
        "ema_decay": 0.9,
        "freeze": [{"parameters": "head.outer", "until_step": UNFROZEN_AT}],
    },
    "schedule": {"kind": "polynomial", "warmup_steps": 0, "warmup_ratio": 0.3},
    "train": {"precision": "fp16", "max_steps": STEPS, "eval_every": STEPS},
    "checkpoint": {"every": 1, "keep_last": STEPS},
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run that was never interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CODE, str(WORKSPACE))
        job = write_job(tmp_path_factory.mktemp("straight") / "run", **SETTINGS)
        run_here(job)
    return job


def read(job: Job, step: int) -> checkpoint.Contents:
    return checkpoint.read(job.run.checkpoint(step))


def resumed(straight: Job, folder: Path, last: int) -> Job:
    """A second attempt that continues from the checkpoint of step `last`."""
    job = Job("train", Path(shutil.copytree(straight.folder, folder / "run")))
    for path in checkpoints.committed(job.run.checkpoints):
        if checkpoints.read_manifest(path).step > last:
            shutil.rmtree(path)
    run_here(job, attempt=2)
    return job


@pytest.mark.parametrize("last", [2, UNFROZEN_AT, 6])
def test_resume_is_exact(straight: Job, tmp_path: Path, last: int) -> None:
    job = resumed(straight, tmp_path, last)
    assert final_state(job, STEPS) == final_state(straight, STEPS)


@pytest.mark.parametrize(
    ("part", "method", "differs"),
    [
        (Average, "load", "average.safetensors"),
        (Stepper, "load_scaler_state", "state.json"),
        (learner, "load_optimizer", "optimizer.safetensors"),
    ],
)
def test_control_what_is_not_restored_differs(
    straight: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: Any,
    method: str,
    differs: str,
) -> None:
    monkeypatch.setattr(part, method, lambda *arguments: None)
    job = resumed(straight, tmp_path, 6)
    assert final_state(job, STEPS)[differs] != final_state(straight, STEPS)[differs]


def test_a_frozen_part_moves_and_has_state_from_its_step_on(straight: Job) -> None:
    name = "head.outer.weight"
    weights = [read(straight, step).model[name] for step in range(1, STEPS + 1)]
    assert all(torch.equal(weights[0], later) for later in weights[1:UNFROZEN_AT])
    assert not torch.equal(weights[0], weights[-1])
    states = [any(name in key for key in read(straight, n).optimizer) for n in (UNFROZEN_AT, STEPS)]
    assert states == [False, True]


def test_what_is_evaluated_are_the_averages(straight: Job) -> None:
    contents = read(straight, STEPS)
    assert contents.state["progress"]["loss_scale"]["scale"] > 0
    weights = checkpoint.read_weights(straight.run.checkpoint(STEPS))
    for name, average in contents.average.items():
        assert torch.equal(weights[name], average)
        assert not torch.equal(contents.model[name], average)
