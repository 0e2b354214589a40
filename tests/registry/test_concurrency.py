"""Several processes write at once: nothing is lost. The control shows what would lose."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable

import pytest

from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState

MakeRun = Callable[..., NewRun]

_WRITER = """
import sys
from pathlib import Path
from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState

runs, me, rounds = RunsFolder(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
won = 0
with open_registry(runs) as registry:
    for number in range(rounds):
        run_id = f"{me}-{number}"
        registry.create_run(NewRun(run_id, run_id, "asr", "fbank", 0.0, 10, "x"))
        registry.transition(JobKey(run_id), {RunState.QUEUED}, RunState.RUNNING)
        for old, new in ((RunState.QUEUED, RunState.RUNNING), (RunState.RUNNING, RunState.QUEUED)):
            won += registry.transition(JobKey("shared"), {old}, new)
print(won)
"""


def _together(runs: RunsFolder, processes: int, rounds: int) -> int:
    """Start writers, let all go at once; how many transitions of the shared run succeeded."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(runs.path), f"w{number}", str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won = 0
    for process in started:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        won += int(output)
    return won


def test_no_write_of_any_process_is_lost(
    registry: Registry, runs: RunsFolder, new_run: MakeRun
) -> None:
    registry.create_run(new_run("shared"))
    won = _together(runs, processes=4, rounds=40)
    rows = registry.list_runs()
    assert len(rows) == 4 * 40 + 1
    assert len(registry.list_runs(states={RunState.RUNNING})) >= 4 * 40
    changes = [event for event in registry.events("shared") if "->" in event.text]
    assert len(changes) == won > 0
    # Compare-and-swap: the two changes alternate, whoever made them.
    assert {event.text for event in changes[::2]} == {"queued -> running"}
    assert {event.text for event in changes[1::2]} <= {"running -> queued"}


def test_processes_that_create_the_registry_at_once_share_one(runs: RunsFolder) -> None:
    runs.path.mkdir()
    run = runs.run("shared")
    run.path.mkdir()
    _write_run_folder(runs)
    _together(runs, processes=3, rounds=2)
    with open_registry(runs) as registry:
        assert len(registry.list_runs()) == 3 * 2 + 1


def _write_run_folder(runs: RunsFolder) -> None:
    from orchestra.wire.files import write_json
    from orchestra.wire.job import JobState

    run = runs.run("shared")
    run.job.config.write_text("[train]\nmax_steps = 10\n")
    write_json(
        run.identity, {"name": "shared", "task": "asr", "upstream": "fbank", "created_at": 1.0}
    )
    JobState(RunState.QUEUED, "", 0, 1.0).write(run.job)


def test_control_deferred_transactions_lose(
    registry: Registry, runs: RunsFolder, new_run: MakeRun
) -> None:
    """What sqlite-utils' atomic() and Python's default do: read, then write, in BEGIN DEFERRED."""
    registry.create_run(new_run("r1"))
    first, second = (sqlite3.connect(runs.registry, isolation_level=None) for _ in range(2))
    for connection in (first, second):
        connection.execute("PRAGMA busy_timeout = 30000")
        connection.execute("BEGIN DEFERRED")
        assert connection.execute("SELECT step FROM runs").fetchone() == (0,)
    first.execute("UPDATE runs SET step = step + 1")
    first.execute("COMMIT")
    with pytest.raises(sqlite3.OperationalError, match="locked"):  # at once, whatever the timeout
        second.execute("UPDATE runs SET step = step + 1")


def test_a_writer_waits_for_the_one_before(
    registry: Registry, runs: RunsFolder, new_run: MakeRun
) -> None:
    registry.create_run(new_run("r1"))
    with open_registry(runs) as other:
        with registry._database.write() as connection:
            connection.execute("UPDATE runs SET state = 'running'")
            # The lock is held from BEGIN on: nobody else can have read the old state to change it.
            other._database._connection.execute("PRAGMA busy_timeout = 0")
            with pytest.raises(Exception, match="locked by another process"):
                other.transition(JobKey("r1"), {RunState.QUEUED}, RunState.STARTING)
        assert not other.transition(JobKey("r1"), {RunState.QUEUED}, RunState.STARTING)


def test_a_writer_that_is_killed_leaves_no_half_and_no_lock(
    registry: Registry, runs: RunsFolder, new_run: MakeRun
) -> None:
    registry.create_run(new_run("r1"))
    program = (
        "import os, signal\nfrom pathlib import Path\n"
        "from orchestra.registry.store import open_registry\n"
        "from orchestra.wire.folders import RunsFolder\n"
        f"registry = open_registry(RunsFolder(Path({str(runs.path)!r})))\n"
        "with registry.bulk():\n"
        "    registry.progress('r1', 50, {'loss': 1.0})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert killed.returncode == -9
    registry._database._connection.execute("PRAGMA busy_timeout = 0")
    registry.add_event("r1", "notice", "still writable")
    assert (registry.get_run("r1").step, registry.get_run("r1").loss) == (0, None)
