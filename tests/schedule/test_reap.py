"""Real processes: what dead runs left is killed, and nothing else is ever touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.schedule import reap
from orchestra.schedule.reap import Fate, find, judge, reap_dead
from orchestra.supervise import tree
from orchestra.supervise.lock import FileLock
from orchestra.supervise.tree import Tagged
from orchestra.wire.folders import Job
from orchestra.wire.identity import self_identity
from orchestra.wire.job import JOB, RUN, TAG, WORKSPACE, Attempt, JobState
from orchestra.wire.states import AttemptState, RunState
from tests.chaos.sandbox import Sandbox, wait_for
from tests.fakes.nvml import FakeNvml

Start = Callable[..., subprocess.Popen[bytes]]
NOBODY = 65534
UNSHARED = ("unshare", "--mount", "sleep", "600")
ESCAPE = """
import os
os.setsid()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", "600"])
    os._exit(0)
"""


def of(job: Job, tag: str) -> dict[str, str]:
    return {TAG: tag, RUN: job.run.id, JOB: os.fspath(job.folder)}


@pytest.fixture
def start() -> Iterator[Start]:
    """A process with this environment, once it has it."""
    processes = []

    def start(
        environment: dict[str, str],
        *command: str,
        user: int | None = None,
        own_session: bool = False,
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command or ("/bin/sleep", "600"),
            env=environment,
            user=user,
            start_new_session=own_session,
        )
        processes.append(process)
        mark = f"{TAG}={environment.get(TAG, '')}".encode()
        if TAG in environment and not command:
            environ = Path(f"/proc/{process.pid}/environ")
            wait_for("its environment", lambda: mark in environ.read_bytes())
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def dead_job(sandbox: Sandbox) -> Job:
    """A run that was at work when its supervisor died."""
    job = sandbox.add_run()
    gone = replace(self_identity(), boot_id="the boot before")
    JobState(RunState.RUNNING, "", 1, time.time(), supervisor=gone).write(job)
    return job


def own(job: Job, tag: str, *, launcher: str = "", running: bool = True) -> FileLock:
    """As a live supervisor has it: the lock held, the attempt on record."""
    number = len(job.attempts()) + 1
    folder = job.attempt(number)
    folder.logs.mkdir(parents=True)
    state = AttemptState.RUNNING if running else AttemptState.CRASHED
    Attempt(number, tag, 1, (), time.time(), state, launcher=launcher).write(folder)
    lock = FileLock.acquire(job.lock, 5.0)
    assert lock is not None
    return lock


def fate(job: Job, tag: str) -> Fate:
    return judge(Tagged(self_identity(), tag, job.run.id, os.fspath(job.folder), "")).fate


def test_a_dead_runs_process_is_killed_and_a_live_runs_is_not(
    sandbox: Sandbox, start: Start
) -> None:
    live = sandbox.start(sandbox.add_run(hold=True, nproc=1))
    attempt = sandbox.held(live)
    dead = dead_job(sandbox)
    tag = f"d.1.{os.urandom(4).hex()}"
    left = start(of(dead, tag))
    escaped = start(of(dead, tag), sys.executable, "-S", "-E", "-c", ESCAPE)
    escaped.wait()
    before = {process.pid for process in sandbox.alive(live)}

    def found() -> dict[str, str]:
        """Tags by commands."""
        return {item.command: item.tag for item in find().dead if item.run_id == dead.run.id}

    # In the middle of its exec the escaped one has no environment to be found by.
    wait_for("both", lambda: found() == {"/bin/sleep 600": tag, "sleep 600": tag})
    swept = reap_dead(sandbox.workspace.runs)
    assert (swept.killed, swept.leftovers) == (2, ())
    assert left.wait(60) == -9
    assert tree.tagged(tag) == []
    assert attempt.agent is not None and attempt.agent.is_alive()
    assert {process.pid for process in sandbox.alive(live)} == before


def test_similar_tags_of_a_live_run_are_untouched(sandbox: Sandbox, start: Start) -> None:
    job = dead_job(sandbox)
    with own(job, "r.1.aaaa", running=False), own_again(job, "r.2.aaab"):
        old, new = start(of(job, "r.1.aaaa")), start(of(job, "r.2.aaab"))
        assert reap_dead(sandbox.workspace.runs).killed == 1
        assert old.wait(60) == -9
        assert new.poll() is None


def own_again(job: Job, tag: str, launcher: str = "") -> FileLock:
    """The next attempt of a supervisor that holds the lock already."""
    folder = job.attempt(len(job.attempts()) + 1)
    folder.logs.mkdir(parents=True)
    Attempt(folder.number, tag, 1, (), time.time(), launcher=launcher).write(folder)
    return FileLock(os.open(os.devnull, os.O_RDONLY))


def test_whose_lock_is_held_only_what_is_over_is_dead(sandbox: Sandbox) -> None:
    job = dead_job(sandbox)
    with own(job, "r.1.a", launcher="r.launcher.l"):
        assert fate(job, "r.1.a") == Fate.LIVE
        assert fate(job, "r.launcher.l") == Fate.LIVE
        assert fate(job, "r.launcher.new") == Fate.UNKNOWN  # starting, before its attempt
    assert fate(job, "r.1.a") == Fate.DEAD
    with own(job, "r.2.b", launcher="r.launcher.l", running=False):
        assert fate(job, "r.1.a") == Fate.DEAD
        assert fate(job, "r.2.b") == Fate.DEAD
        assert fate(job, "r.launcher.l") == Fate.LIVE  # between two attempts


def test_another_machines_run_is_not_touched(sandbox: Sandbox, start: Start) -> None:
    job = dead_job(sandbox)
    state = JobState.read(job)
    assert state.supervisor is not None
    elsewhere = replace(state.supervisor, machine_id="another", host="elsewhere")
    replace(state, supervisor=elsewhere).write(job)
    process = start(of(job, "r.1.a"))
    assert reap_dead(sandbox.workspace.runs).killed == 0
    assert process.poll() is None
    (listed,) = [item for item in find().unknown if item.tag == "r.1.a"]
    assert listed.verdict.why == "its run lives on host elsewhere"


def test_what_cannot_be_decided_is_listed_and_lives(sandbox: Sandbox, start: Start) -> None:
    job = dead_job(sandbox)
    whole = job.state.read_bytes()
    job.state.write_text("{")
    homeless = {TAG: "h.1.a", RUN: "h"}
    unmounted = {TAG: "u.1.a", RUN: "u", JOB: "/nowhere/runs/u"}
    processes = [start(item) for item in (of(job, "r.1.a"), homeless, unmounted)]
    told = {item.tag: item.verdict.why for item in find().unknown}
    assert "state.json" in told["r.1.a"]
    assert "nothing tells" in told["h.1.a"]
    assert "/nowhere/runs is not there" in told["u.1.a"]
    assert reap_dead(tags=set(told)).killed == 0
    assert all(process.poll() is None for process in processes)
    job.state.write_bytes(whole)


def test_a_removed_runs_process_is_dead(sandbox: Sandbox, start: Start) -> None:
    job = dead_job(sandbox)
    process = start(of(job, "r.1.a"))
    shutil.rmtree(job.folder)
    assert reap_dead(sandbox.workspace.runs).killed == 1
    assert process.wait(60) == -9
    sandbox.jobs.remove(job)


def test_a_process_of_an_older_orchestra_is_found_by_its_workspace(
    sandbox: Sandbox, start: Start
) -> None:
    job = dead_job(sandbox)
    old = {TAG: f"{job.run.id}.1.a", RUN: job.run.id, WORKSPACE: str(sandbox.workspace.root)}
    process = start(old)
    assert reap_dead(sandbox.workspace.runs).killed == 1
    assert process.wait(60) == -9


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user's process")
def test_another_users_process_is_not_even_seen(sandbox: Sandbox, start: Start) -> None:
    job = dead_job(sandbox)
    theirs = start(of(job, "r.1.a"), user=NOBODY)
    assert "r.1.a" not in {item.tag for item in tree.scan()}
    assert reap_dead(sandbox.workspace.runs).killed == 0
    assert theirs.poll() is None


def test_a_process_in_a_container_is_listed_and_lives(sandbox: Sandbox, start: Start) -> None:
    """Its path of the run may be another folder than ours of that name."""
    job = dead_job(sandbox)
    inside = start({**of(job, "r.1.a"), "PATH": os.environ["PATH"]}, *UNSHARED)
    comm = Path(f"/proc/{inside.pid}/comm")
    wait_for("its start", lambda: inside.poll() is not None or comm.read_text() == "sleep\n")
    if inside.poll() is not None:
        pytest.skip("no mount namespace can be made here")
    assert reap_dead(sandbox.workspace.runs).killed == 0
    assert inside.poll() is None
    assert "container" in {item.tag: item.verdict.why for item in find().unknown}["r.1.a"]


def test_other_workspaces_are_left_to_their_own(sandbox: Sandbox, start: Start) -> None:
    job = dead_job(sandbox)
    process = start(of(job, "r.1.a"))
    elsewhere = replace(sandbox.workspace.runs, path=Path("/elsewhere"))
    assert reap_dead(elsewhere).killed == 0
    assert process.poll() is None


def test_the_command_itself_is_spared(sandbox: Sandbox, start: Start) -> None:
    """`orchestra reap` in a shell that a dead run has started."""
    job = dead_job(sandbox)
    program = (
        "import sys; from pathlib import Path; from orchestra.schedule.reap import *;"
        "mine = [item for item in find().unknown if 'this very' in item.verdict.why];"
        "print(len(mine), reap_dead(RunsFolder(Path(sys.argv[1]))).killed)"
    )
    sibling = start(of(job, "r.1.a"))
    done = subprocess.run(
        [sys.executable, "-c", program, sandbox.workspace.runs.path],
        env={**os.environ, **of(job, "r.1.a")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 1\n"
    assert sibling.wait(60) == -9


def test_memory_on_gpus_and_strangers_are_told(
    sandbox: Sandbox, start: Start, nvml: FakeNvml
) -> None:
    job = dead_job(sandbox)
    mine = start(of(job, "r.1.a"))
    child_of_us = start({}, own_session=True)  # has a parent that waits for it
    orphan = int(subprocess.check_output([sys.executable, "-S", "-c", ORPHAN]))
    try:
        lines = [f"process {pid} 100" for pid in (mine.pid, child_of_us.pid, orphan)]
        nvml.write("gpu GPU-0 81920 300 0 Fake", *lines, "gpu GPU-1 81920 9 0 Fake", lines[0])
        findings = find()
        (dead,) = [item for item in findings.dead if item.tag == "r.1.a"]
        assert dead.gpu_bytes == 2 * 100 * 2**20
        strangers = {item.pid: item for item in findings.strangers}
        assert orphan in strangers and child_of_us.pid not in strangers
        assert strangers[orphan].gpu_bytes == 100 * 2**20
        assert strangers[orphan].why in ("its parent is pid 1", "the leader of its session is dead")
    finally:
        os.kill(orphan, 9)


ORPHAN = """
import os
os.setsid()
pid = os.fork()
if pid == 0:
    os.close(1)
    os.execv("/bin/sleep", ["sleep", "600"])
print(pid)
"""


def test_without_nvml_memory_is_unknown(sandbox: Sandbox, start: Start, nvml: FakeNvml) -> None:
    nvml.write("broken")
    job = dead_job(sandbox)
    start(of(job, "r.1.a"))
    (dead,) = [item for item in find().dead if item.tag == "r.1.a"]
    assert dead.gpu_bytes is None
    assert 0 <= dead.age_s < 600


def test_a_verdict_is_passed_anew_before_the_kill(
    sandbox: Sandbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dead_job(sandbox)
    process = start(of(job, "r.1.a"))
    shown = {item.tag for item in find().dead}
    with own(job, "r.1.a"):
        assert reap_dead(tags=shown & {"r.1.a"}).killed == 0
        assert process.poll() is None
    assert reap.reap_dead(tags={"r.1.b"}).killed == 0  # not shown, not killed
    assert process.poll() is None
