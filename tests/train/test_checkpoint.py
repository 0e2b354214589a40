"""Checkpoints: kills at every write boundary, every kind of damage, tied weights, retention."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orchestra.config.schema import CheckpointConfig
from orchestra.train import checkpoint
from orchestra.train.checkpoint import Contents
from orchestra.train.retention import Kept, by_score, superfluous
from orchestra.train.snapshot import Snapshots
from orchestra.wire import checkpoints
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import OrchestraError

STATE = {"progress": {"step": 1}}


def contents(value: float) -> Contents:
    shared = torch.full((3, 2), value)
    model = {"a": shared, "tied": shared, "empty": torch.zeros(0), "also_empty": torch.zeros(0)}
    return Contents(model, {"a/step": torch.tensor(value)}, STATE)


def save(root: Path, step: int, score: float | None = None) -> Path:
    checkpoint.write(root, step, Snapshots().take(contents(float(step))), score, "wer")
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
    data[-3] ^= 1
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
    if name == "manifest.json" and damage is flip_a_bit:
        # A flipped bit in JSON must not pass as another number.
        document = json.loads((bad / name).read_text())
        document["files"]["state.json"]["size"] += 1
        (bad / name).write_text(json.dumps(document))
    else:
        damage(bad / name)  # type: ignore[operator]
    with pytest.raises(BadCheckpointError):
        checkpoints.verify(bad)
    alarms: list[str] = []
    assert checkpoint.newest_good(tmp_path, alarms.append) == good
    assert [path.name for path in (tmp_path / ".quarantine").iterdir()] == ["step-00000002.0"]
    assert len(alarms) == 1
    assert "step-00000002" in alarms[0]


def test_newest_two_bad(tmp_path: Path) -> None:
    good = save(tmp_path, 1)
    for step in (2, 3):
        empty(save(tmp_path, step) / "model.safetensors")
    alarms: list[str] = []
    assert checkpoint.newest_good(tmp_path, alarms.append) == good
    assert len(alarms) == 2


def test_one_that_retention_deletes_meanwhile_is_no_bad_one(tmp_path: Path) -> None:
    good, gone = save(tmp_path, 1), save(tmp_path, 2)
    checkpoint.delete(gone)
    assert checkpoint.first_good([gone, good], pytest.fail) == good


def test_no_good_one(tmp_path: Path) -> None:
    assert checkpoint.newest_good(tmp_path / "none", print) is None
    empty(save(tmp_path, 1) / "state.json")
    assert checkpoint.newest_good(tmp_path, lambda text: None) is None


KILLER = """
import itertools, os, signal, sys
from pathlib import Path
from tests.train.test_checkpoint import checkpoint, save

root = Path(sys.argv[1])

def save_until(boundary):
    calls = itertools.count()
    def dying(original):
        def call(*arguments, **keywords):
            if next(calls) == boundary:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)
        return call
    os.fsync = dying(os.fsync)
    for name in ("mkdir", "rename", "open"):
        setattr(Path, name, dying(getattr(Path, name)))
    save(root, 2)
    os._exit(0)

for boundary in itertools.count():
    pid = os.fork()
    if pid == 0:
        save_until(boundary)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found = checkpoint.newest_good(root, lambda text: print("ALARM", text))
    print(boundary, code, found.name, flush=True)
    checkpoint.sweep(root)
    if code == 0:
        break
    if found.name.endswith("2"):
        checkpoint.delete(found)
print(sorted(path.name for path in root.iterdir()))
"""


def test_kill_at_every_boundary_of_a_save(tmp_path: Path) -> None:
    save(tmp_path, 1)
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    *kills, whole, left = done.stdout.splitlines()
    assert "ALARM" not in done.stdout, "a killed save left a folder that counts as a checkpoint"
    assert len(kills) >= 12  # four files opened and synced, folders made, synced and renamed
    states = [line.split()[2] for line in kills]
    assert states == sorted(states), "the commit was undone"
    assert "step-00000001" in states
    assert whole.split()[1:] == ["0", "step-00000002"]
    assert left == "['step-00000001', 'step-00000002']", "something was left behind"


def test_a_live_writer_is_not_swept(tmp_path: Path) -> None:
    from orchestra.wire.identity import start_ticks

    living = tmp_path / f".writing-00000003-{os.getpid()}-{start_ticks(os.getpid())}"
    dead = tmp_path / f".writing-00000003-{os.getpid()}-1"
    living.mkdir()
    dead.mkdir()
    checkpoint.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [living]


def test_no_space_is_noticed_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 100})()
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="100 bytes free"):
        save(tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 3)
    checkpoint.write(tmp_path, 3, Snapshots().take(contents(9.0)), 0.5, "wer")
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


def test_newest_is_that_of_the_highest_step(tmp_path: Path) -> None:
    steps = (99_999_999, 100_000_000, 5)
    for step in steps:
        save(tmp_path, step)
    (tmp_path / "step-00000007.copy").mkdir()
    found = [checkpoints.read_manifest(path).step for path in checkpoints.committed(tmp_path)]
    assert found == sorted(steps, reverse=True)


def test_bad_checkpoint_is_shown_without_a_traceback() -> None:
    assert issubclass(BadCheckpointError, OrchestraError)


def test_retention_keeps_last_and_best() -> None:
    scores = {1: 5.0, 2: 3.0, 3: 4.0, 4: None, 5: 3.0, 6: 9.0}
    kept = [Kept(step, score) for step, score in scores.items()]
    config = CheckpointConfig(every=1, keep_last=2, keep_best=1)
    assert superfluous(kept, config, "min") == [1, 3, 4]  # of equal scores the older is the best
    assert superfluous(kept, config, "max") == [1, 2, 3, 4]
    wide = CheckpointConfig(every=1, keep_last=2, keep_best=3)
    assert superfluous(kept, wide, "min") == [1, 4]
    assert [k.step for k in by_score(kept, "max")] == [6, 1, 3, 2, 5]
