"""A run on a disk that is full from its first step on, until there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.train.trainer import Trainer, train
from orchestra.wire.heartbeat import Heartbeat
from orchestra.wire.job import Result
from tests.exactness.launching import final_state, write_job
from tests.fakes.disk import fill, mounted
from tests.train.running import open_here, records_of, run_here


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", mebibytes=4) as disk:
        yield disk


def test_training_and_validations_go_on_while_the_disk_is_full(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = write_job(tmp_path / "run")
    run_here(undisturbed)
    job = write_job(small_disk / "run")
    here = open_here(job)
    session = replace(here, pulse=Heartbeat(tmp_path / "memory" / "tag", 0))
    take = Trainer._take

    def taken(trainer: Trainer, *arguments: Any) -> Any:
        step = trainer._progress.step
        if step == 2:
            fill(small_disk)
        elif step == 7:  # step 5 was validated on the full disk, and 4 was to be saved
            (small_disk / "filler").unlink()
        return take(trainer, *arguments)

    monkeypatch.setattr(Trainer, "_take", taken)
    train(session)
    assert Result.read(job.attempt(1)) == Result("completed", 12)
    assert final_state(job) == final_state(undisturbed), "the validation counts as any other"
    said = [r.values["text"] for r in records_of(job) if r.kind == "notice"]
    assert said[0].startswith("no checkpoint at step 4, the disk is full")
    left = [path.name for path in session.pulse.folder.iterdir()]
    assert left == ["rank0"]
