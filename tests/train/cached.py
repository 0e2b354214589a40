"""Jobs on frozen upstreams with the feature cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestra.train.model import SpeechModel, build_model
from orchestra.wire.folders import Job
from tests.exactness.launching import write_job
from tests.train.running import config_of

SMALL = {"batch": {"micro_batches": 3}}


def cached_job(folder: Path, source: Path, *, kind: str = "probe", **tables: dict[str, Any]) -> Job:
    """A task on a tiny HuBERT; its cache lies beside the run."""
    upstream = {"kind": "huggingface", "name": "tiny", "source": str(source)}
    upstream |= tables.pop("upstream", {})
    cache = {"features": True, **tables.pop("cache", {})}
    return write_job(folder, kind=kind, **{**SMALL, **tables}, upstream=upstream, cache=cache)


def model_of(job: Job) -> SpeechModel:
    config, info = config_of(job)
    return build_model(config, info.task_class()(config.task, config.data))
