"""A process that ends or is killed in a save: what it leaves is what resume needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestra.wire import checkpoints
from tests.train.savers import names

ENDS = """
import sys, threading
from pathlib import Path
from orchestra.train import checkpoint
from tests.train.savers import contents, saver

raised = threading.Event()
write = checkpoint._write_durably

def held(path, pieces, tick):
    assert raised.wait(60)
    return write(path, pieces, tick)

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
from tests.train.savers import contents, saver

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
@pytest.mark.fault("SIGKILL during a save")
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
