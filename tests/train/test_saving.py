"""The saver: background writing, errors at the next step, full disks, retention, exit, kills."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from orchestra.config.schema import CheckpointConfig
from orchestra.train import checkpoint, saving, snapshot
from orchestra.train.checkpoint import Contents
from orchestra.train.goals import Goal
from orchestra.train.recorder import Recorder
from orchestra.train.saving import Saver
from orchestra.wire import checkpoints
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.exit_codes import ExitCode

FULL = OSError(errno.ENOSPC, "No space left on device")
PATIENCE_S = 20.0


class Told:
    """A recorder that remembers; only the thread that made it may write."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[dict[str, Any]] = []
        self.notices: list[str] = []
        self._thread = threading.get_ident()

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        assert kind == "checkpoint"
        assert threading.get_ident() == self._thread
        self.steps.append(step)
        self.values.append(values)

    def notice(self, step: int, text: str) -> None:
        assert threading.get_ident() == self._thread
        self.notices.append(text)


def contents(value: float = 0.0) -> Contents:
    return Contents({"w": torch.full((64,), value)}, {"w/step": torch.tensor(value)}, {})


def saver(
    root: Path,
    told: Told | None = None,
    export: Callable[[Path], None] | None = None,
    **config: Any,
) -> Saver:
    goal = Goal("acc", config.pop("direction", "max"))
    recorder = cast(Recorder, told or Told())
    return Saver(root, CheckpointConfig(every=1, **config), goal, recorder, export)


class Gate:
    """Holds every write of a checkpoint back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()
        write = checkpoint._write_durably

        def held(path: Path, pieces: Any) -> tuple[int, str]:
            self.reached.set()
            assert self._opened.wait(PATIENCE_S)
            return write(path, pieces)

        monkeypatch.setattr(checkpoint, "_write_durably", held)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open()


def fail(monkeypatch: pytest.MonkeyPatch, error: OSError, times: int = 1) -> None:
    """The next so many files of a checkpoint can't be written."""
    write, left = checkpoint._write_durably, iter(range(times))

    def failing(path: Path, pieces: Any) -> tuple[int, str]:
        if next(left, None) is not None:
            raise error
        return write(path, pieces)

    monkeypatch.setattr(checkpoint, "_write_durably", failing)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def steps(root: Path) -> list[int]:
    return sorted(map(checkpoints.step_of, checkpoints.committed(root)))


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


def test_the_next_save_waits_for_the_one_before(tmp_path: Path, gate: Gate) -> None:
    keeper = saver(tmp_path)
    keeper.save(1, contents, None, must=False)
    threading.Timer(0.05, gate.open).start()

    def second() -> Contents:
        assert steps(tmp_path) == [1], "its memory may still be read"
        return contents(2.0)

    keeper.save(2, second, None, must=False)
    keeper.close()
    assert steps(tmp_path) == [1, 2]
    assert checkpoint.read(checkpoints.step_folder(tmp_path, 1)).model["w"][0] == 0
    assert checkpoint.read(checkpoints.step_folder(tmp_path, 2)).model["w"][0] == 2


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


def test_an_error_of_the_disk_ends_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, OSError(errno.EIO, "Input/output error"), times=2)
    keeper = saver(tmp_path)
    keeper.save(1, contents, None, must=False)
    wait_for(keeper)
    with pytest.raises(OSError, match="Input/output"):
        keeper.poll()
    keeper.poll()  # told once
    keeper.save(2, contents, None, must=False)
    with pytest.raises(OSError, match="Input/output"):
        keeper.save(3, contents, None, must=False)


def test_a_full_disk_is_told_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    keeper = saver(tmp_path, told)
    keeper.save(1, contents, None, must=True)
    fail(monkeypatch, FULL)
    keeper.save(2, contents, None, must=False)
    wait_for(keeper)
    keeper.poll()
    assert told.notices == [
        "no checkpoint at step 2, the disk is full (No space left on device); training on"
    ]
    assert names(tmp_path) == ["step-00000001"]
    keeper.save(2, contents, None, must=False)  # not taken for saved
    keeper.close()
    assert told.steps == [1, 2]


@pytest.mark.parametrize("before", [True, False])
def test_the_last_save_must_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    fail(monkeypatch, FULL, times=2)
    keeper = saver(tmp_path)
    if before:
        keeper.save(1, contents, None, must=False)
    with pytest.raises(OSError, match="No space"):
        keeper.save(1, contents, None, must=True)
        keeper.save(2, contents, None, must=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("looked_before", [True, False])
def test_a_disk_that_is_really_full(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, looked_before: bool
) -> None:
    told, root = Told(), small_disk / "checkpoints"
    keeper = saver(root, told)
    keeper.save(1, contents, None, must=True)
    if not looked_before:
        monkeypatch.setattr(checkpoint, "_check_space", lambda root, size: None)
    big = Contents({"w": torch.zeros(200_000)}, {"w": torch.zeros(200_000)}, {})
    keeper.save(2, lambda: big, None, must=False)
    keeper.close()
    assert [text.split(",")[0] for text in told.notices] == ["no checkpoint at step 2"]
    assert names(root) == ["step-00000001"]
    assert checkpoint.newest_good(root, pytest.fail) == checkpoints.step_folder(root, 1)


def test_room_for_more_than_the_checkpoint_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(p.nbytes for ps in snapshot.Snapshots().take(contents()).values() for p in ps)
    free = {"bytes": int(1.2 * size) - 1}
    monkeypatch.setattr(
        checkpoint.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free["bytes"]})
    )
    keeper = saver(tmp_path)
    with pytest.raises(OSError, match="bytes free"):
        keeper.save(1, contents, None, must=True)
    assert not names(tmp_path)
    free["bytes"] += 2
    keeper.save(1, contents, None, must=True)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    root.write_text("")
    with pytest.raises(UsageError, match=rf"can't write checkpoints to {root}: .*resume") as caught:
        saver(root)
    assert caught.value.exit_code is ExitCode.USAGE  # which the supervisor does not retry


def test_a_folder_that_becomes_read_only(small_disk: Path) -> None:
    keeper = saver(small_disk)
    keeper.save(1, contents, None, must=True)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    keeper.save(2, contents, None, must=False)
    wait_for(keeper)
    with pytest.raises(UsageError, match=r"Read-only file system; make that a folder"):
        keeper.poll()
    with pytest.raises(UsageError, match=str(small_disk)):
        saver(small_disk)


def test_a_bad_one_in_a_read_only_folder_is_passed_over(small_disk: Path) -> None:
    keeper, said = saver(small_disk), []
    for step in (1, 2):
        keeper.save(step, contents, None, must=True)
    (checkpoints.step_folder(small_disk, 2) / "state.json").write_bytes(b"")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    found = checkpoint.newest_good(small_disk, said.append)
    assert found == checkpoints.step_folder(small_disk, 1)
    assert "can't be moved to quarantine (Read-only file system)" in said[0]


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

    def export(folder: Path) -> None:
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

    def export(folder: Path) -> None:
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

    def export(folder: Path) -> None:
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


def settle(keeper: Saver) -> None:
    """Until the export that is under way, if there is one, has ended and is told of."""
    if keeper._exporting:
        keeper._exporting.done.exception(PATIENCE_S)
    keeper.poll()


def test_an_old_one_that_cannot_be_deleted_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where a file that somebody still reads keeps its folder from going."""
    told = Told()
    keeper = saver(tmp_path, told)
    for step in (1, 2):
        keeper.save(step, contents, None, must=True)

    def busy(folder: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))

    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "delete", busy)
        for step in (3, 4):
            keeper.save(step, contents, None, must=True)
    assert told.steps == [1, 2, 3, 4]
    (notice,) = told.notices
    assert notice.startswith("an old checkpoint can't be deleted (") and "step-00000001" in notice
    keeper.save(5, contents, None, must=True)
    assert steps(tmp_path) == [4, 5], "the next one removes what was left"


def test_a_replaced_one_that_cannot_be_deleted_undoes_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    keeper = saver(tmp_path, told)
    keeper.save(1, contents, None, must=True)

    def busy(folder: Path, ignore_errors: bool = False) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))

    with monkeypatch.context() as broken:
        broken.setattr("shutil.rmtree", busy)
        keeper.save(1, contents, 0.5, must=True)
    assert (told.steps, told.notices) == ([1, 1], [])
    assert checkpoints.verify(checkpoints.step_folder(tmp_path, 1)).score == 0.5
    saver(tmp_path)
    assert names(tmp_path) == ["step-00000001"]


def wait_for(keeper: Saver) -> None:
    """Until the save that is under way has ended, well or not."""
    assert keeper._under_way is not None
    keeper._under_way.done.exception(PATIENCE_S)


ENDS = """
import sys, threading
from pathlib import Path
from tests.train.test_saving import checkpoint, contents, saver

raised = threading.Event()
write = checkpoint._write_durably

def held(path, pieces):
    assert raised.wait(60)
    return write(path, pieces)

def hook(*error):
    sys.__excepthook__(*error)
    raised.set()

checkpoint._write_durably = held
sys.excepthook = hook
saver(Path(sys.argv[1])).save(1, contents, None, must=False)
raise RuntimeError("the loss is a teapot")
"""


def test_a_rank_that_ends_with_an_error_commits_what_is_under_way(tmp_path: Path) -> None:
    done = run(ENDS, tmp_path / "checkpoints")
    assert done.returncode == 1
    assert "teapot" in done.stderr
    assert names(tmp_path / "checkpoints") == ["step-00000001"]
    checkpoints.verify(tmp_path / "checkpoints/step-00000001")


KILLER = """
import io, itertools, json, os, shutil, signal, sys
from pathlib import Path
from orchestra.schedule.checkpoints import find, steps
from orchestra.train import checkpoint
from orchestra.wire import checkpoints
from orchestra.wire.folders import RunFolder
from tests.train.test_saving import contents, saver

BOUNDARIES = ("fsync", "mkdir", "rename", "unlink", "rmdir", "open")
SCENES = {  # what is there (step: score), the save (step, score)
    "first": ({}, (1, None)),
    "next": ({1: None}, (2, None)),
    "replacing": ({1: None, 2: None}, (2, 0.5)),
    "deleting": ({1: None, 2: None, 3: None}, (4, 0.5)),
}
here, control = Path(sys.argv[1]), sys.argv[2] == "control"
if control:
    checkpoint.recover = checkpoints.recover = lambda root: None
    SCENES = {"replacing": SCENES["replacing"]}

def prepare(root, there):
    keeper = saver(root, keep_last=10)
    for step, score in there.items():
        keeper.save(step, contents, score, must=True)

def killed(root, number, step, score):
    # A forked child has no threads of ours; the save is written by one that it starts.
    calls = itertools.count()
    def dying(original):
        def call(*arguments, **keywords):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)
        return call
    keeper = saver(root)
    for name in BOUNDARIES:
        setattr(os, name, dying(getattr(os, name)))
    io.open = dying(io.open)
    keeper.save(step, contents, score, must=True)
    os._exit(0)

def chosen(root):
    # What `resume` does before the ranks; on a copy, for they must get along without it.
    run = RunFolder(root.with_name(root.name + "-resumed"))
    shutil.copytree(root, run.checkpoints)
    checkpoints.recover(run.checkpoints)
    manifest = checkpoints.read_manifest(find(run, "last"))
    best = checkpoints.read_manifest(find(run, "best")).step if manifest.score else None
    return [max(steps(run)), manifest.score, best]

for name, (there, save) in SCENES.items():
    template = here / f"{name}-before"
    template.mkdir(parents=True)
    if os.fork() == 0:
        prepare(template, there)
        os._exit(0)
    os.wait()
    for number in itertools.count():
        root = here / f"{name}-{number}"
        shutil.copytree(template, root)
        pid = os.fork()
        if pid == 0:
            killed(root, number, *save)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        alarms = []
        control_plane = chosen(root) if checkpoints.committed(root) or there else None
        found = checkpoint.newest_good(root, alarms.append)
        score = checkpoints.read_manifest(found).score if found else None
        good = [checkpoints.verify(path).step for path in checkpoints.committed(root)]
        checkpoint.sweep(root)
        left = sorted(path.name for path in root.iterdir())
        print(json.dumps({"scene": name, "code": code, "step": found and good[0], "score": score,
                          "good": good, "alarms": alarms, "left": left,
                          "control_plane": control_plane}), flush=True)
        if code == 0:
            break
        assert code == -signal.SIGKILL
"""


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What was found after a SIGKILL at each boundary of each kind of save."""
    done = run(KILLER, tmp_path_factory.mktemp("kills"), "as it is")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "before", "after"),
    [
        ("first", (None, None), (1, None)),
        ("next", (1, None), (2, None)),
        ("replacing", (2, None), (2, 0.5)),
        ("deleting", (3, None), (4, 0.5)),
    ],
)
def test_kill_at_every_boundary(
    kills: list[dict[str, Any]], scene: str, before: object, after: object
) -> None:
    *killed, whole = [kill for kill in kills if kill["scene"] == scene]
    states = [(kill["step"], kill["score"]) for kill in killed]
    assert set(states) == {before, after}, "a kill led to something else than the newest good one"
    assert states == sorted(states, key=lambda state: state == after), "the commit was undone"
    assert len(killed) >= 14  # four files opened and synced, folders made, renamed and synced
    for kill in [*killed, whole]:
        assert not kill["alarms"], "a killed save left a folder that counts as a checkpoint"
        assert [f"step-{step:08d}" for step in reversed(kill["good"])] == kill["left"]
        if kill["step"]:
            best = kill["step"] if kill["score"] else None
            assert kill["control_plane"] == [kill["step"], kill["score"], best]
    assert (whole["step"], whole["score"]) == after


@pytest.mark.slow
def test_the_scenes_show_a_gap_where_there_is_one(tmp_path: Path) -> None:
    """The control: without the name that stands in, replacing loses the newest for a moment."""
    done = run(KILLER, tmp_path, "control")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {kill["step"] for kill in found} == {1, 2}
    assert {kill["control_plane"][0] for kill in found} == {1, 2}


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
