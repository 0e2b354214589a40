"""The saver: background writing, slow disks, what is saved again, retention, exports."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.train import checkpoint, saving, snapshot
from orchestra.train.checkpoint import Contents
from orchestra.train.saving import Saver
from orchestra.wire import checkpoints
from orchestra.wire.errors import OrchestraError
from tests.train.savers import FULL, PATIENCE_S, Told, contents, fail, names, saver, steps, wait_for


class Gate:
    """Holds every write of a checkpoint back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()
        write = checkpoint._write_durably

        def held(path: Path, pieces: Any, tick: Any) -> tuple[int, str]:
            self.reached.set()
            assert self._opened.wait(PATIENCE_S)
            return write(path, pieces, tick)

        monkeypatch.setattr(checkpoint, "_write_durably", held)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open()


def test_training_goes_on_while_it_is_written(tmp_path: Path, gate: Gate) -> None:
    told = Told()
    keeper = saver(tmp_path, told)
    keeper.save(1, contents, None, must=False)
    assert gate.reached.wait(PATIENCE_S)
    keeper.poll()
    assert not told.steps
    assert not steps(tmp_path)
    gate.open()
    keeper.close()
    assert told.steps == [1]
    checkpoints.verify(checkpoints.step_folder(tmp_path, 1))


@pytest.mark.parametrize("copied", [True, False])
def test_what_is_saved_is_what_was_at_that_moment(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    if not copied:  # the control
        monkeypatch.setattr(snapshot, "_into", lambda memory, tensor: tensor)
    weight, settings = torch.zeros(8), {"lr": 1.0}
    keeper = saver(tmp_path)
    keeper.save(1, lambda: Contents({"w": weight}, {}, {"s": settings}), None, must=False)
    weight.fill_(7.0)
    settings["lr"] = 2.0
    gate.open()
    keeper.close()
    read = checkpoint.read(checkpoints.step_folder(tmp_path, 1))
    assert torch.equal(read.model["w"], torch.zeros(8)) == copied
    assert read.state["s"] == {"lr": 1.0}


def test_the_next_save_waits_for_the_one_before(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = saver(tmp_path)
    keeper.save(1, contents, None, must=False)
    wait = saving.wait

    def opening(*asked: Any) -> Any:
        gate.open()
        return wait(*asked)

    monkeypatch.setattr(saving, "wait", opening)  # who waits for it, lets it go on

    def second() -> Contents:
        assert steps(tmp_path) == [1], "its memory may still be read"
        return contents(2.0)

    keeper.save(2, second, None, must=False)
    keeper.close()
    assert steps(tmp_path) == [1, 2]
    assert checkpoint.read(checkpoints.step_folder(tmp_path, 1)).model["w"][0] == 0
    assert checkpoint.read(checkpoints.step_folder(tmp_path, 2)).model["w"][0] == 2


def test_the_heart_of_who_waits_beats_as_long_as_something_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes each next piece only when the heart has beaten for the one before."""
    monkeypatch.setattr(saving, "_LOOK_S", 0.001)
    beats, write = list[int](), checkpoint._write_durably

    def slow(path: Path, pieces: Any, tick: Any) -> tuple[int, str]:
        for _ in range(3):
            before = len(beats)
            tick()
            until(lambda: len(beats) > before)  # noqa: B023
        return write(path, pieces, tick)

    monkeypatch.setattr(checkpoint, "_write_durably", slow)
    keeper = saver(tmp_path, beat=lambda: beats.append(keeper._written.moved))
    keeper.save(1, contents, None, must=True)
    keeper.save(2, contents, None, must=False)
    keeper.close()
    assert steps(tmp_path) == [1, 2]
    assert len(beats) >= 2 * 3 * 3


def test_the_heart_stops_where_the_disk_is_stuck(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "_LOOK_S", 0.001)
    beats, looks, wait = list[int](), list[int](), saving.wait

    def counted(*asked: Any) -> Any:
        looks.append(len(beats))
        if len(looks) == 50:
            gate.open()
        return wait(*asked)

    monkeypatch.setattr(saving, "wait", counted)
    keeper = saver(tmp_path, beat=lambda: beats.append(1))
    keeper.save(1, contents, None, must=True)
    assert looks[49] == 1, "it beats when it begins to wait, then for what is written alone"
    keeper.close()


def test_large_tensors_are_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the disk is seen to get on in the middle of one."""
    for module in (checkpoint, checkpoints):
        monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    monkeypatch.setattr(checkpoint, "_SYNC_BYTES", 5000)
    beats, synced, sync = list[int](), list[int](), os.fdatasync

    def counted(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", counted)
    keeper = saver(tmp_path)
    keeper.save(1, lambda: Contents({"w": torch.arange(5000.0)}, {}, {}), None, must=True)
    assert keeper._written.moved >= 20
    assert len(synced) == 4, "and what was written is on the disk, not in memory"
    read = checkpoint.read(checkpoints.step_folder(tmp_path, 1))
    assert torch.equal(read.model["w"], torch.arange(5000.0))
    checkpoints.verify(checkpoints.step_folder(tmp_path, 1), lambda: beats.append(1))
    assert len(beats) >= 20


def test_shapes_may_change_from_save_to_save(tmp_path: Path) -> None:
    keeper = saver(tmp_path)
    for step in (1, 2):
        weight = torch.arange(6.0).reshape(2, 3).t()[:step]  # not contiguous either
        keeper.save(step, lambda w=weight: Contents({"w": w}, {}, {}), None, must=True)  # type: ignore[misc]
        read = checkpoint.read(checkpoints.step_folder(tmp_path, step))
        assert torch.equal(read.model["w"], weight)


def test_memory_that_was_prepared_is_what_a_save_fills(tmp_path: Path) -> None:
    keeper = saver(tmp_path)
    keeper.prepare(contents())
    keeper.save(1, lambda: contents(3.0), None, must=True)
    prepared = keeper._snapshots._memory["model.safetensors"]["w"].data_ptr()
    keeper.save(2, lambda: contents(4.0), None, must=True)
    assert keeper._snapshots._memory["model.safetensors"]["w"].data_ptr() == prepared
    for step, value in ((1, 3.0), (2, 4.0)):
        read = checkpoint.read(checkpoints.step_folder(tmp_path, step))
        assert torch.equal(read.model["w"], torch.full((64,), value))


def test_a_step_is_saved_once_and_again_when_its_score_is_news(tmp_path: Path) -> None:
    told, asked = Told(), []

    def counted() -> Contents:
        asked.append(1)
        return contents()

    keeper = saver(tmp_path, told)
    for must in (False, False, True, True):
        keeper.save(4, counted, None, must=must)
    assert (len(asked), told.steps) == (1, [4])
    keeper.save(4, counted, 0.5, must=True)
    keeper.save(4, counted, float("nan"), must=True)  # no score at all
    assert (len(asked), told.steps) == (3, [4, 4, 4])
    keeper.save(4, counted, 0.5, must=True)
    assert [value["score"] for value in told.values] == [None, 0.5, None, 0.5]
    again = saver(tmp_path, told)
    again.save(4, counted, 0.5, must=True)
    assert len(asked) == 4, "what is on the disk is not written again"
    assert names(tmp_path) == ["step-00000004"]


def test_after_a_hundred_saves_the_promised_ones_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # 600 of them, and no crash in this test
    keeper = saver(tmp_path, keep_last=3, keep_best=2, keep_every=40)
    for step in range(1, 101):
        score = {17: 0.9, 18: 0.9, 19: 0.9, 63: 0.8}.get(step, step / 1000)
        keeper.save(step, contents, score if step % 2 or step == 18 else None, must=False)
        keeper.poll()
    keeper.close()
    promised = [17, 18, 40, 80, 98, 99, 100]
    assert names(tmp_path) == [f"step-{step:08d}" for step in promised]
    for folder in checkpoints.committed(tmp_path):
        checkpoints.verify(folder)
    assert [path.name for path in saving.best_first(tmp_path)[:3]] == [
        "step-00000017", "step-00000018", "step-00000099",
    ]  # fmt: skip


def test_nothing_is_deleted_before_the_newer_one_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = saver(tmp_path)
    for step in (1, 2):
        keeper.save(step, contents, None, must=True)
    fail(monkeypatch, FULL)
    keeper.save(3, contents, None, must=False)
    wait_for(keeper)
    keeper.poll()
    assert steps(tmp_path) == [1, 2]
    keeper.save(3, contents, None, must=False)
    keeper.close()
    assert steps(tmp_path) == [2, 3]


def test_a_bad_folder_of_the_same_step_is_kept_for_people(tmp_path: Path) -> None:
    keeper = saver(tmp_path)
    keeper.save(1, contents, None, must=True)
    (checkpoints.step_folder(tmp_path, 1) / "model.safetensors").write_bytes(b"torn")
    keeper.save(1, contents, 0.5, must=True)
    assert checkpoints.verify(checkpoints.step_folder(tmp_path, 1)).score == 0.5
    reason = (tmp_path / ".quarantine/step-00000001.0/reason.txt").read_text()
    assert "model.safetensors has 4 bytes instead of" in reason


def test_the_best_is_exported_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, exported = Told(), []
    full = [True]

    def export(folder: Path, tick: Callable[[], None]) -> None:
        assert threading.current_thread() is not threading.main_thread()
        checkpoints.verify(folder)
        if full.pop() if full else False:
            raise FULL
        exported.append(folder.name)

    keeper = saver(tmp_path, told, export)
    for step, score in enumerate([None, 0.3, 0.2, 0.5, 0.5, None], start=1):
        keeper.save(step, contents, score, must=True)
        settle(keeper)
    keeper.close()
    assert exported == ["step-00000002", "step-00000004"]  # of the first there was no room
    assert told.steps == [1, 2, 3, 4, 5, 6]
    (notice,) = told.notices
    assert notice.startswith("the best checkpoint is not exported (") and "No space left" in notice
    assert [value["best_score"] for value in told.values] == [None, 0.3, 0.3, 0.5, 0.5, 0.5]


def test_an_export_that_fails_costs_nothing_else(tmp_path: Path) -> None:
    told = Told()

    def export(folder: Path, tick: Callable[[], None]) -> None:
        raise OrchestraError("no such head")

    keeper = saver(tmp_path, told, export)
    for step in (1, 2):
        keeper.save(step, contents, step / 10, must=True)
        settle(keeper)
    keeper.close()
    assert told.steps == [1, 2]
    assert told.notices == ["the best checkpoint is not exported (no such head); training on"] * 2


def test_no_save_waits_for_an_export_and_the_newest_best_is_next(tmp_path: Path) -> None:
    told, exported, hangs = Told(), list[str](), threading.Event()

    def export(folder: Path, tick: Callable[[], None]) -> None:
        if not exported:
            exported.append("begun")
            assert hangs.wait(PATIENCE_S)
            raise OrchestraError("it is gone")  # what retention does to it meanwhile
        exported.append(folder.name)

    keeper = saver(tmp_path, told, export)
    for step in (1, 2, 3, 4):
        keeper.save(step, contents, step / 10, must=True)
    assert told.steps == [1, 2, 3, 4]
    hangs.set()
    keeper.close()
    assert exported == ["begun", "step-00000004"]
    assert not told.notices, "nobody needs the export of one that is the best no more"


@pytest.mark.parametrize("stuck", [False, True])
def test_the_heart_beats_for_an_export_as_long_as_it_gets_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: bool
) -> None:
    monkeypatch.setattr(saving, "_LOOK_S", 0.001)
    beats, looks, wait = list[int](), list[int](), saving.wait
    waited_for, enough = threading.Event(), threading.Event()

    def counted(*asked: Any) -> Any:
        waited_for.set()
        looks.append(1)
        if len(looks) > 50:
            enough.set()
        return wait(*asked)

    def export(folder: Path, tick: Callable[[], None]) -> None:
        assert waited_for.wait(PATIENCE_S)
        for _ in range(0 if stuck else 3):
            before = len(beats)
            tick()
            until(lambda: len(beats) > before)  # noqa: B023
        assert enough.wait(PATIENCE_S)

    keeper = saver(tmp_path, export=export, beat=lambda: beats.append(1))
    keeper.save(1, contents, 0.5, must=True)
    beats.clear()
    monkeypatch.setattr(saving, "wait", counted)
    keeper.close()
    assert len(beats) == 1 if stuck else len(beats) >= 3, "one when it begins to wait"


def until(condition: Callable[[], bool]) -> None:
    """Wait for it in another thread than the one that brings it about."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def settle(keeper: Saver) -> None:
    """Until the export that is under way, if there is one, has ended and is told of."""
    if keeper._exporting:
        keeper._exporting.done.exception(PATIENCE_S)
    keeper.poll()
