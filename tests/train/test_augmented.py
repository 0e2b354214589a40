"""Runs with augmentation: the same bits however they are read and interrupted; never evaluated on.

Real ranks, killed and resumed, are in tests/exactness.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.data import augmenter
from orchestra.data.augmenter import Augmenter
from orchestra.data.loader import Request
from orchestra.train.evaluation import Evaluator, load_split
from orchestra.train.model import build_model
from orchestra.train.rendezvous import Exchange
from orchestra.train.training_data import load_training_data
from orchestra.wire.errors import DataError
from orchestra.wire.folders import Job
from orchestra.wire.job import StopFlag
from orchestra.wire.manifest import write_manifest
from tests.exactness.launching import final_state, write_job
from tests.train.running import open_here, run_here

STEPS = 6


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noises and rooms, and their manifest."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = []
    for number in range(4):
        draw = np.random.default_rng(number)
        samples = draw.normal(0, 0.1, 3000) * np.exp(-np.arange(3000) / 400)
        soundfile.write(folder / f"{number}.wav", samples, 16000)
        rows.append({"id": str(number), "path": f"{number}.wav", "duration_s": 3000 / 16000})
    write_manifest(folder, "all", rows, "a test")
    return folder


def job_in(folder: Path, recordings: Path, **tables: dict[str, Any]) -> Job:
    manifest = str(recordings / "all.jsonl")
    augment = {
        "speed": {"factors": [0.9, 1.0, 1.1]},
        "rir": {"manifest": manifest, "probability": 0.5},
        "noise": {"manifest": manifest, "probability": 0.5},
        "crop_s": 0.3,
    }
    tables = {"augment": augment, "batch": {"micro_batches": 3}, **tables}
    train = {"max_steps": STEPS, "eval_every": STEPS}
    return write_job(folder, train=train, data={"test": [], **tables.pop("data", {})}, **tables)


def stopped_after_each_of_two_steps(job: Job) -> Job:
    """The run, in three attempts, the last one to the end."""
    StopFlag(0.0, 30.0).write(job)
    run_here(job, 1)
    run_here(job, 2)
    job.stop.unlink()
    run_here(job, 3)
    return job


def test_workers_and_interruptions_change_no_bit(recordings: Path, tmp_path: Path) -> None:
    straight = job_in(tmp_path / "straight", recordings)
    start = run_here(straight)[0].values
    sha256 = hashlib.sha256((recordings / "all.jsonl").read_bytes()).hexdigest()
    assert start["augmentation"] == {"augment.noise": sha256, "augment.rir": sha256}
    resumed = job_in(tmp_path / "resumed", recordings, data={"workers": 1})
    stopped_after_each_of_two_steps(resumed)
    assert final_state(resumed, STEPS) == final_state(straight, STEPS)
    plain = job_in(tmp_path / "plain", recordings, augment={})
    run_here(plain)
    assert final_state(plain, STEPS) != final_state(straight, STEPS)


def test_control_draws_that_follow_from_history_would_be_noticed(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, how: Any) -> dict[str, Any]:
        common = random.Random(1)
        monkeypatch.setattr(augmenter, "_draw", lambda seed, part: common)
        job = job_in(tmp_path / name, recordings)
        how(job)
        return final_state(job, STEPS)

    assert run("straight", run_here) == run("again", run_here)
    assert run("resumed", stopped_after_each_of_two_steps) != run("whole", run_here)


def test_no_micro_batch_passes_the_cap_and_the_warm_up_meets_the_longest(
    recordings: Path, tmp_path: Path
) -> None:
    augment = {"speed": {"factors": [0.8, 1.25, 1.25, 1.25]}}
    session = open_here(job_in(tmp_path / "run", recordings, augment=augment))
    data = load_training_data(session)
    cap = session.config.batch.max_micro_seconds * 16000
    micro_batches = [micro for step in data.planner.epoch(0) for micro in step]
    samples = [data.loader.read(Request(0, micro)).wavs.numel() for micro in micro_batches]
    longest, largest = data.worst_batches(session.ranks.device)
    assert max(samples) <= largest.wavs.numel() <= cap + 1
    slowest = [round(u.duration_s / 0.8 * 16000) for u in longest.utterances]
    assert longest.lengths.tolist() == slowest
    assert max(u.duration_s for u in longest.utterances) == max(
        u.duration_s for u in data.utterances
    )


def test_evaluation_hears_the_recordings_themselves(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Augmenter, wav: Any, seed: int) -> Any:
        raise DataError("augmented")

    monkeypatch.setattr(Augmenter, "augment", refuse)
    job = job_in(tmp_path / "run", recordings)
    session = open_here(job)
    with pytest.raises(DataError, match="augmented"):  # the patch is where training looks
        load_training_data(session).worst_batches(session.ranks.device)
    split = load_split(session.task, "dev", session.config)
    model = build_model(session.config, session.task)
    evaluator = Evaluator(
        session.config, session.task, model, session.ranks, lambda *_: None, lambda: False
    )
    assert evaluator.evaluate(split, Exchange(tmp_path / "files")) is not None


def test_other_noises_than_before_are_refused_at_a_resume(recordings: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    rows = [{"id": "0", "path": str(recordings / "0.wav"), "duration_s": 0.1}]
    write_manifest(own, "all", rows, "a test")
    job = job_in(tmp_path / "run", own)
    StopFlag(0.0, 30.0).write(job)
    run_here(job)
    write_manifest(own, "all", [{**rows[0], "duration_s": 0.05}], "a test")
    with pytest.raises(DataError, match=r"restore the manifests of augment\.noise"):
        run_here(job, 2)
