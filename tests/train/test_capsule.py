"""What a failing step leaves behind, and that nothing else does."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.train import capsule_files, trainer
from orchestra.train.capsule import FEW, Capsules
from orchestra.train.capsule_files import read_batches, read_weights
from orchestra.train.model import build_model
from orchestra.wire.capsules import Capsule, capsule_of, capsules_in, read_document
from orchestra.wire.checkpoints import committed, read_manifest
from orchestra.wire.errors import DataError, NotFiniteError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import LONG_WRITE_S, read_beats
from orchestra.wire.identity import marked
from orchestra.wire.job import CODE, Result, config_sha256
from tests.exactness.launching import log_of
from tests.train.faults import FAULTY, GUILTY, faulty_job, run_two_ranks
from tests.train.running import open_here, records_of, run_here

ENDLESS = {"max_steps": 40}
"""More than the limit of skipped steps in a row."""


@pytest.fixture(autouse=True)
def faulty_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CODE, str(FAULTY))


def capsules_of(job: Job) -> list[Capsule]:
    return capsules_in(job.run.capsules)


def notices(job: Job, attempt: int = 1) -> list[str]:
    records = records_of(job, attempt)
    return [record.values["text"] for record in records if record.kind == "notice"]


def ids_of(document: dict[str, Any]) -> list[str]:
    return [name for item in document["micro_batches"] for name in item["ids"]]


def test_a_nan_leaves_batches_and_weights_and_training_goes_on(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "nan", optim={"kind": "sgd", "lr": 0.1})
    run_here(job)
    assert Result.read(job.attempt(1)) == Result("completed", 6)
    (capsule,) = capsules_of(job)
    document = read_document(capsule)
    assert document["reason"] == "not finite"
    assert document["non_finite"][0] == "loss"
    assert document["step"] == capsule.step
    assert GUILTY in ids_of(document)
    assert document["config_sha256"] == config_sha256(job)
    assert document["code"] == {"commit": "abc", "tree": "def", "dirty": True}
    assert document["versions"]["torch"] == torch.__version__
    (told,) = [text for text in notices(job) if "capsule" in text]
    assert told.startswith(f"step {capsule.step}: capsule {capsule.name} (")
    assert all(capsule.folder not in folder.parents for folder in committed(job.run.checkpoints))

    consumed = read_batches(capsule, document, torch.device("cpu"))
    session = open_here(job, attempt=9)
    for number, batch in consumed:
        split = {utterance.id: utterance for utterance in session.task.utterances("train")}
        assert [split[name] for name in batch.ids] == batch.utterances
        for row, utterance in enumerate(batch.utterances):
            wav = batch.wavs[row, : int(batch.lengths[row])]
            assert wav.tolist() == session.task.read(utterance).tolist(), number
        assert batch.targets["labels"].tolist() == [u.fields["label"] for u in batch.utterances]


def test_the_weights_are_those_that_the_step_began_with(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "nan", guilty="*", train={"max_steps": 1})
    run_here(job)
    (capsule,) = capsules_of(job)
    session = open_here(job, attempt=9)
    fresh = build_model(session.config, session.task).saved_state()
    kept = read_weights(capsule, read_document(capsule))
    assert kept.keys() == fresh.keys()
    assert all(torch.equal(kept[name], fresh[name]) for name in fresh)


def test_an_exception_leaves_a_capsule_and_stays_the_same(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "error", checkpoint={"every": 2})
    with pytest.raises(ValueError, match="utterances can't be aligned"):
        run_here(job)
    (capsule,) = capsules_of(job)
    document = read_document(capsule)
    assert document["exception"]["type"] == "ValueError"
    assert "task.py" in document["exception"]["traceback"]
    assert document["micro_batches"][-1]["ids"].count(GUILTY) == 1
    # The save of step 4 may still be on its way in the background.
    checkpoint = job.run.path / document["checkpoint"]["path"]
    assert checkpoint in committed(job.run.checkpoints)
    assert document["checkpoint"]["sha256"] == read_manifest(checkpoint).sha256

    # Another attempt fails alike: once is enough.
    with pytest.raises(ValueError, match="utterances can't be aligned"):
        run_here(job, attempt=2)
    assert capsules_of(job) == [capsule]
    assert f"as in the capsule {capsule.name}" in notices(job, 2)[-1]


def test_an_error_that_explains_itself_leaves_none(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "usage")
    with pytest.raises(DataError):
        run_here(job)
    assert capsules_of(job) == []


def test_one_for_a_streak_and_the_run_ends_at_the_limit(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "nan", guilty="*", train=ENDLESS)
    with pytest.raises(NotFiniteError):
        run_here(job)
    assert [capsule.step for capsule in capsules_of(job)] == [1]


def test_too_high_a_loss_scale_is_no_bug(tmp_path: Path) -> None:
    """It falls until the gradient of the lowest is not finite either: only that is kept."""
    train = {"max_steps": 34, "precision": "fp16"}
    job = faulty_job(tmp_path / "run", "gradient", guilty="*", train=train)
    run_here(job)
    first = next(text for text in notices(job) if "not finite" in text)
    (capsule,) = capsules_of(job)
    assert first.startswith(f"step {capsule.step}:")
    assert capsule.step > 10


def test_a_handful_for_a_run(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "nan", train={"max_steps": 60})
    run_here(job)
    kept = capsules_of(job)
    assert len(kept) == FEW
    assert f"no capsule: there are {FEW} already" in " ".join(notices(job))


def full_disk(folder: Path, *anything: Any) -> None:
    """Writes a part, then there is no room left."""
    folder.mkdir(parents=True)
    (folder / "batches.safetensors").write_bytes(b"a part")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", ["nan", "error"])
def test_a_full_disk_costs_the_capsule_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(capsule_files, "_write_all", full_disk)
    job = faulty_job(tmp_path / "run", fault)
    if fault == "nan":
        run_here(job)
        assert Result.read(job.attempt(1)) == Result("completed", 6)
    else:
        with pytest.raises(ValueError, match="can't be aligned"):
            run_here(job)
    assert "no capsule, it can't be written: [Errno 28]" in " ".join(notices(job))
    assert list(job.run.capsules.iterdir()) == []


def test_checkpoints_need_the_room_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 10_000
    free = shutil.disk_usage(tmp_path)._replace(free=2 * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    place = capsule_of(tmp_path / "capsules", step=1, attempt=1, rank=0)
    with pytest.raises(OSError, match="bytes free"):
        capsule_files.write(place, {}, [], {"weight": torch.zeros(size // 4)})
    assert not any((tmp_path / "capsules").rglob("*"))
    capsule_files.write(place, {}, [], {"weight": torch.zeros(size // 40)})
    assert (place.folder / "model.safetensors").exists()


def test_a_folder_in_the_way_and_a_value_that_is_no_json_cost_the_capsule_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = faulty_job(tmp_path / "run", "error")
    job.run.capsules.write_text("a file")
    with pytest.raises(ValueError, match="can't be aligned"):
        run_here(job)
    assert "no capsule, it can't be written" in notices(job)[-1]
    job.run.capsules.unlink()
    monkeypatch.setattr(capsule_files, "asdict", lambda utterance: {"field": {1, 2}})
    with pytest.raises(ValueError, match="can't be aligned"):
        run_here(job, attempt=2)
    assert "no capsule, it can't be written" in notices(job, 2)[-1]


def test_nothing_is_done_while_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    class Watched(Capsules):
        def not_finite(self, *arguments: Any) -> None:
            called.append("not_finite")
            super().not_finite(*arguments)

        def _keep(self, *arguments: Any, **named: Any) -> None:
            called.append("_keep")
            super()._keep(*arguments, **named)

    monkeypatch.setattr(trainer, "Capsules", Watched)
    run_here(faulty_job(tmp_path / "healthy", "none"))
    assert called == []
    run_here(faulty_job(tmp_path / "broken", "nan"))
    assert called == ["not_finite", "_keep"]


def test_nan_in_one_rank_is_that_ranks_capsule(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "nan", guilty="train-1")
    assert run_two_ranks(job) == ExitCode.OK
    assert Result.read(job.attempt(1)) == Result("completed", 6)
    (capsule,) = capsules_of(job)
    document = read_document(capsule)
    assert "train-1" in ids_of(document)
    assert {item["number"] % 2 for item in document["micro_batches"]} == {capsule.rank}
    assert (capsule.rank, capsule.step) == (1, 2), "else rank 0 has nothing to say of another"
    assert capsule.name in log_of(job, rank=1)
    assert "another rank; `orchestra replay run` takes its capsule again" in notices(job)[0]
    assert "step 2: step 2:" not in log_of(job, rank=0)


@pytest.mark.chaos
def test_an_exception_in_one_of_two_ranks(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "error")
    assert run_two_ranks(job) != ExitCode.OK
    (capsule,) = capsules_of(job)
    assert GUILTY in ids_of(read_document(capsule))
    assert json.loads((capsule.folder / "capsule.json").read_bytes())["world_size"] == 2


def test_what_killed_writers_left_goes_with_the_next_attempt(tmp_path: Path) -> None:
    job = faulty_job(tmp_path / "run", "nan", guilty="nobody")
    dead, living, foreign = (
        job.run.capsules / name
        for name in (".writing-step-00000007-1-1", marked(".writing-step-00000007"), ".writing-x")
    )
    for folder in (dead, living, foreign):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half of it")
    run_here(job)
    assert sorted(job.run.capsules.iterdir()) == sorted([living, foreign])


def test_a_rank_says_that_a_capsule_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = faulty_job(tmp_path / "run", "nan")
    write, promised = capsule_files.write, []

    def slow(*arguments: Any) -> int:
        promised.extend(beat.promise_s for beat in read_beats(job.folder / "pages"))
        return write(*arguments)

    monkeypatch.setattr(capsule_files, "write", slow)
    run_here(job)
    assert promised == [LONG_WRITE_S]
