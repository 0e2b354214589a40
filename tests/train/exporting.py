"""Runs with a checkpoint of weights that no seed gives, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestra.config.frozen import dump, load, validate
from orchestra.config.schema import RunConfig
from orchestra.train import checkpoint
from orchestra.train.checkpoint import Contents
from orchestra.train.export import export
from orchestra.train.goals import Goal
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.snapshot import Snapshots
from orchestra.wire.folders import Job
from tests.exactness.launching import write_job
from tests.train.running import config_of

STEP = 8
GOAL = Goal("loss", "min")


def model_of(job: Job) -> SpeechModel:
    """As a run of it starts."""
    config, info = config_of(job)
    return build_model(config, info.task_class()(config.task, config.data))


def trained(job: Job, average: dict[str, Tensor] | None = None) -> SpeechModel:
    """A model whose weights have moved, saved as the run's checkpoint of `STEP`."""
    model = model_of(job)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.1).add_(0.01)
    contents = Contents(model.saved_state(), {}, {}, average or {})
    job.run.checkpoints.mkdir()
    checkpoint.write(job.run.checkpoints, STEP, Snapshots().take(contents), 0.5, GOAL)
    return model


def tuning_job(folder: Path, source: Path, **choice: Any) -> Job:
    """A run that tunes the tiny model in `source`."""
    job = write_job(folder)
    upstream = {"kind": "huggingface", "name": "tiny", "source": str(source), "trainable": True}
    document = load(job.config) | {"upstream": upstream | choice}
    job.config.write_bytes(dump(validate(document, config_of(job)[1])))
    return job


def export_of(job: Job, out: Path, **more: Any) -> dict[str, Any]:
    config: RunConfig = config_of(job)[0]
    return export(job.run.checkpoint(STEP), out, job.run, config, **more)
