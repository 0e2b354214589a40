"""Checkpoints: all damage, tied weights, averages, retention. Kills: test_saving_kills.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.config.schema import CheckpointConfig
from orchestra.train import checkpoint
from orchestra.train.checkpoint import Contents
from orchestra.train.goals import Goal
from orchestra.train.retention import superfluous
from orchestra.train.snapshot import Snapshots
from orchestra.wire import checkpoints
from orchestra.wire.checkpoints import BadCheckpointError, Manifest, best_first

STATE = {"progress": {"step": 1}}
WER = Goal("wer", "min")


def contents(value: float) -> Contents:
    shared = torch.full((3, 2), value)
    model = {"a": shared, "tied": shared, "empty": torch.zeros(0), "also_empty": torch.zeros(0)}
    return Contents(model, {"a/step": torch.tensor(value)}, STATE)


def save(root: Path, step: int, score: float | None = None) -> Path:
    checkpoint.write(root, step, Snapshots().take(contents(float(step))), score, WER)
    return checkpoints.step_folder(root, step)


def test_round_trip_keeps_values_and_ties(tmp_path: Path) -> None:
    folder = save(tmp_path, 7, score=1.5)
    manifest = checkpoints.verify(folder)
    assert (manifest.step, manifest.score, manifest.metric) == (7, 1.5, "wer")
    read = checkpoint.read(folder)
    assert read.model["tied"] is read.model["a"]
    assert torch.equal(read.model["a"], torch.full((3, 2), 7.0))
    assert read.model.keys() == contents(0).model.keys()
    assert read.optimizer["a/step"] == 7
    assert read.state["progress"] == STATE["progress"]
    size = (folder / "model.safetensors").stat().st_size
    assert size < 350, "tied weights are stored twice"


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-4] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, Path.unlink])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_damage_leads_to_the_one_before_and_to_quarantine(
    tmp_path: Path, damage: object, name: str
) -> None:
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    damage(bad / name)  # type: ignore[operator]
    with pytest.raises(BadCheckpointError):
        checkpoints.verify(bad)
    alarms: list[str] = []
    assert checkpoint.newest_good(tmp_path, alarms.append) == good
    (quarantined,) = (tmp_path / ".quarantine").iterdir()
    assert quarantined.name == "step-00000002.0"
    assert name in (quarantined / "reason.txt").read_text()
    assert len(alarms) == 1
    assert "step-00000002" in alarms[0]


def test_averages_are_kept_beside_the_weights_and_stand_in_for_them(tmp_path: Path) -> None:
    shared = torch.zeros(2, 2)
    model = {"w": shared, "tied": shared, "statistics": torch.ones(3)}
    averaged = Contents(model, {}, STATE, {"w": torch.full((2, 2), 0.5)})
    checkpoint.write(tmp_path, 1, Snapshots().take(averaged), None, WER)
    folder = checkpoints.step_folder(tmp_path, 1)
    checkpoints.verify(folder)
    read = checkpoint.read(folder)
    assert read.average.keys() == {"w"}
    assert torch.equal(read.model["tied"], torch.zeros(2, 2))
    weights = checkpoint.read_weights(folder)
    assert torch.equal(weights["w"], torch.full((2, 2), 0.5))
    assert weights["tied"] is weights["w"], "the tied name has the average too"
    assert torch.equal(weights["statistics"], torch.ones(3))
    assert not (save(tmp_path, 2) / "average.safetensors").exists()
    assert checkpoint.read_weights(save(tmp_path, 3)).keys() == contents(0).model.keys()


@pytest.mark.fault("newest two checkpoints bad")
def test_newest_two_bad(tmp_path: Path) -> None:
    good = save(tmp_path, 1)
    for step in (2, 3):
        empty(save(tmp_path, step) / "model.safetensors")
    alarms: list[str] = []
    assert checkpoint.newest_good(tmp_path, alarms.append) == good
    assert len(alarms) == 2


def test_one_that_retention_deletes_meanwhile_is_no_bad_one(tmp_path: Path) -> None:
    good, gone = save(tmp_path, 1), save(tmp_path, 2)
    checkpoints.delete(gone)
    assert checkpoint.first_good([gone, good], pytest.fail) == good


def test_one_read_that_fails_puts_no_good_one_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, check, left = save(tmp_path, 1), checkpoints.check_files, iter([1])

    def failing(folder: Path, files: dict[str, tuple[int, str]], tick: Any) -> None:
        if next(left, None):
            raise BadCheckpointError("Stale file handle")
        check(folder, files, tick)

    monkeypatch.setattr(checkpoints, "check_files", failing)
    assert checkpoint.newest_good(tmp_path, pytest.fail) == good


def test_what_was_read_keeps_no_file_mapped(tmp_path: Path) -> None:
    """On NFS a folder with a mapped file can't be deleted."""
    read = checkpoint.read(save(tmp_path, 1))
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert read.model


def test_no_good_one(tmp_path: Path) -> None:
    assert checkpoint.newest_good(tmp_path / "none", print) is None
    empty(save(tmp_path, 1) / "state.json")
    assert checkpoint.newest_good(tmp_path, lambda text: None) is None


def test_a_live_writer_is_not_swept(tmp_path: Path) -> None:
    from orchestra.wire.identity import start_ticks

    living = tmp_path / f".writing-00000003-{os.getpid()}-{start_ticks(os.getpid())}"
    dead = tmp_path / f".writing-00000003-{os.getpid()}-1"
    foreign = tmp_path / ".writing-x"
    for folder in (living, dead, foreign):
        folder.mkdir()
    checkpoint.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == [living, foreign]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 3)
    checkpoint.write(tmp_path, 3, Snapshots().take(contents(9.0)), 0.5, WER)
    assert checkpoints.verify(checkpoints.step_folder(tmp_path, 3)).score == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_good_one_of_the_same_step_stays(tmp_path: Path) -> None:
    folder = save(tmp_path, 3, score=0.5)
    files = {path.name: path.stat().st_ino for path in folder.iterdir()}
    save(tmp_path, 3, score=0.5)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == files
    truncate(folder / "model.safetensors")
    save(tmp_path, 3, score=0.5)
    checkpoints.verify(folder)


def test_retention_keeps_last_and_best() -> None:
    def made(direction: Any, scores: dict[int, float | None]) -> list[Manifest]:
        return [Manifest(n, score, "wer", {}, "", direction) for n, score in scores.items()]

    scores = {1: 5.0, 2: 3.0, 3: 4.0, 4: None, 5: 3.0, 6: 9.0}
    less, more = made("min", scores), made("max", scores)
    config = CheckpointConfig(every=1, keep_last=2, keep_best=1)
    assert superfluous(less, config) == [1, 3, 4]  # of equal scores the older is the best
    assert superfluous(more, config) == [1, 2, 3, 4]
    pairs = CheckpointConfig(every=1, keep_last=2, keep_best=1, keep_every=2)
    assert superfluous(less, pairs) == [1, 3]
    wide = CheckpointConfig(every=1, keep_last=2, keep_best=3)
    assert superfluous(less, wide) == [1, 4]
    assert [each.step for each in best_first(more)] == [6, 1, 3, 2, 5]
    assert best_first([*more, *made("max", {7: float("nan")})])[0].step == 6
    assert best_first(made(None, scores)) == []
