"""The real program on a pseudo-terminal, over real runs: what it does, and how it leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestra.config.frozen import dump, validate
from orchestra.tasks import find_task
from orchestra.wire.folders import Job
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.chaos.sandbox import Sandbox
from tests.fakes.nvml import FakeNvml
from tests.tui.curve_data import write_run
from tests.tui.monitor import add_runs
from tests.tui.terminal import Terminal, assert_no_private_strings

ROOT = Path(__file__).parents[2]
MONITOR = (sys.executable, "-m", "orchestra", "tui")
SIZE = (120, 36)
TASK = """
from typing import Any, Literal
from orchestra.config.schema import TaskConfig

class Config(TaskConfig):
    kind: Literal["standin"] = "standin"
    steps: int
    save_every: int
    hold: int
    beats: bool
"""


def started(
    workspace: Workspace, size: tuple[int, int] = SIZE, environment: Mapping[str, str] | None = None
) -> Terminal:
    own = {name: value for name, value in os.environ.items() if name == "ORCHESTRA_LEASES"}
    fixed = {"PYTHONPATH": os.fspath(ROOT), "TEXTUAL_ANIMATIONS": "none"}
    return Terminal(
        MONITOR, size=size, environment={**own, **fixed, **(environment or {})}, cwd=workspace.root
    )


def assert_left_as_it_was(terminal: Terminal) -> None:
    """To be called once the program has ended."""
    assert terminal.echoes, "what is typed would not be seen"
    modes = dict(re.findall(rb"\x1b\[\?(\d+)([hl])", terminal.sent))
    on = {int(mode) for mode, way in modes.items() if way == b"h"}
    # cursor shown, lines wrapped; not: other screen, mouse, focus, paste
    assert on <= {25, 7, 2026} and 25 in on, on
    assert terminal.sent.count(b"\x1b[>1u") <= terminal.sent.count(b"\x1b[<u")
    assert b"Traceback" not in terminal.sent
    assert_no_private_strings(terminal.sent)
    assert not _in_session(terminal.pid), "a process was left"


def _in_session(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def held_run(sandbox: Sandbox, *, gpus: int) -> Job:
    """At step 6 until it is released or asked to stop; its config is whole, so that it resumes."""
    job = sandbox.add_run(hold=True, nproc=gpus, launch={"device": "gpu"})
    folder = sandbox.code / "tasks" / "standin"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.py").write_text(TASK)
    (folder / "task.py").touch()
    document = {
        "seed": 1,
        "task": {"kind": "standin", "steps": 12, "save_every": 5, "hold": 6, "beats": True},
        "upstream": {"kind": "fbank"},
        "data": {"train": "train", "valid": "valid"},
        "batch": {"seconds": 4.0, "max_micro_seconds": 2.5, "micro_batches": 2},
        "optim": {"lr": 0.003},
        "train": {"max_steps": 12, "eval_every": 5},
        "checkpoint": {"every": 5, "keep_last": 3},
        "launch": {
            **{"device": "gpu", "nproc": gpus, "threads": 1, "backoff_s": 0.0, "grace_s": 20.0},
        },
    }
    job.config.write_bytes(dump(validate(document, find_task("standin", sandbox.code))))
    return job


@pytest.mark.slow
def test_start_filter_detail_stop_resume_quit(sandbox: Sandbox, nvml: FakeNvml) -> None:
    nvml.idle(4)
    job = held_run(sandbox, gpus=2)
    run_id = job.run.id
    add_runs(sandbox.workspace, ["done-before"])
    with sandbox.registry() as registry:
        registry.relabel(run_id, name="the-live-one", tags=(), remark="")
    sandbox.start(job)
    ranks = sandbox.held(job).ranks
    with started(sandbox.workspace) as terminal:
        terminal.wait_for("working")
        text = terminal.wait_for("2/4 GPUs free")
        assert "the-live-one" in text and "done-before" in text and "6/12" in text

        terminal.press("/", *"state:running")
        terminal.wait_for(lambda text: "done-before" not in text and "the-live-one" in text)
        terminal.wait_for("undo")
        terminal.press("enter")
        terminal.wait_for("details")  # the keys of the table

        terminal.press("enter")
        detail = terminal.wait_for("2 ranks")
        assert "GPUs free" not in detail and "● 1  running" in detail
        terminal.press("escape")
        terminal.wait_for("2/4 GPUs free")

        terminal.press("s")
        terminal.wait_for("Save and stop")
        terminal.press("tab", "enter")
        assert sandbox.wait_end(job).state is RunState.STOPPED
        terminal.press("escape")  # the filter goes
        terminal.wait_for(lambda text: "■ stopped" in text and "4/4 GPUs free" in text)
        assert not sandbox.alive(job) and all(not _lives(pid) for pid in ranks)

        terminal.press("G")
        terminal.wait_for("■ stopped the-live-one")  # the line under the table
        terminal.press("r")
        terminal.wait_for("goes on from step 6")
        terminal.press("tab", "enter")
        state = sandbox.wait_state(job, {RunState.COMPLETED})
        sandbox.wait_end(job)
        terminal.wait_for("2 completed")
        terminal.press("q")
        assert terminal.exit_code() == 0
        assert_left_as_it_was(terminal)
    assert (state.state, state.attempt) == (RunState.COMPLETED, 2)
    first, second = sandbox.attempts(job)
    assert (first.last_step, second.first_step, second.last_step) == (6, 6, 12)
    with sandbox.registry() as registry:
        row = registry.get_run(run_id)
        said = [event.text for event in registry.events(run_id)]
    assert (row.state, row.step, row.attempt) == (RunState.COMPLETED, 12, 2)
    assert any("stop" in text for text in said) and any("resume" in text for text in said), said


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_small_large_and_ended_by_sigterm(workspace: Workspace) -> None:
    """One program: too small at first, resized while it runs, then terminated."""
    add_runs(workspace, ["first-run", "second-run"])
    with started(workspace, (30, 8)) as terminal:
        terminal.wait_for(lambda text: "60 x 12" in " ".join(text.split()))
        assert "first-run" not in terminal.text
        terminal.press("s", "D")  # keys of what can't be seen do nothing
        terminal.resize(80, 24)
        assert "60 x 12" not in terminal.wait_for("first-run")
        terminal.resize(120, 36)
        terminal.wait_for("curves")
        terminal.resize(59, 24)
        terminal.wait_for(lambda text: "60 x 12" in " ".join(text.split()))
        terminal.resize(120, 36)
        assert "60 x 12" not in terminal.wait_for("first-run")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.exit_code() == 128 + signal.SIGTERM
        assert_left_as_it_was(terminal)


@pytest.mark.slow
def test_ended_while_it_is_loaded(workspace: Workspace) -> None:
    add_runs(workspace, ["first-run"])
    with started(workspace) as terminal:
        terminal.wait_for("first-run")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.exit_code() == 128 + signal.SIGTERM
        assert_left_as_it_was(terminal)


@pytest.mark.slow
def test_without_colours(workspace: Workspace) -> None:
    add_runs(workspace, ["first-run"], RunState.FAILED, "no disk")
    add_runs(workspace, ["second-run"])
    with started(workspace, environment={"NO_COLOR": "1"}) as terminal:
        terminal.wait_for("curves")
        terminal.press("j")
        terminal.wait_for("no disk")
        text = terminal.settle()
        row = next(y for y, line in enumerate(text.split("\n")) if "first-run" in line)
        assert terminal.cells.buffer[row][20].reverse  # the cursor is still to be seen
        assert not terminal.cells.buffer[row - 1][20].reverse
        terminal.press("?")
        terminal.wait_for("search keys")
        terminal.press("escape")
        terminal.wait_for(lambda text: "search keys" not in text)
        terminal.press("q")
        assert terminal.exit_code() == 0
    assert _colours(terminal.sent) == set()


def _colours(sent: bytes) -> set[int]:
    """Numbers of SGR that set a colour."""
    found = set()
    for numbers in re.findall(rb"\x1b\[([0-9;]*)m", sent):
        for number in map(int, filter(None, numbers.split(b";"))):
            if number >= 30 and number not in (39, 49):
                found.add(number)
    return found


@pytest.mark.slow
def test_the_linux_console_gets_ascii_and_colours_are_there_by_default(
    workspace: Workspace,
) -> None:
    """Braille and glyphs that its font lacks are not drawn."""
    (run_id,) = add_runs(workspace, ["first-run"])
    write_run(workspace, run_id).close()
    with started(workspace, environment={"TERM": "linux"}) as terminal:
        terminal.wait_for("train/loss")
        assert "+ completed" in terminal.settle()
        terminal.press("q")
        assert terminal.exit_code() == 0
    text = terminal.sent.decode()
    assert not re.search("[⠀-⣿]", text) and "✓" not in text
    assert _colours(terminal.sent)
    with started(workspace) as terminal:
        terminal.wait_for("train/loss")
        assert re.search("[⠁-⣿]", terminal.settle())
        terminal.press("q")
        assert terminal.exit_code() == 0


def test_without_a_terminal_it_says_so(workspace: Workspace) -> None:
    done = subprocess.run(
        MONITOR,
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: the monitor needs a terminal")
    assert "\x1b" not in done.stderr and "Traceback" not in done.stderr
