"""`up` takes up all unfinished work of this machine, once, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from orchestra.registry.rows import Demand, JobKey
from orchestra.schedule.conductor import conductor_is_alive
from orchestra.schedule.up import up
from orchestra.wire.folders import Job
from orchestra.wire.identity import self_identity
from orchestra.wire.job import Attempt, EvaluationSpec, JobState
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox, wait_for


def ended(sandbox: Sandbox, state: RunState, job: Job | None = None) -> Job:
    """A run (or the evaluation `job`) that has ended so, in its folder and in the registry."""
    job = job or sandbox.add_run(nproc=1)
    JobState(state, "", 0, time.time(), failures=1).write(job)
    key = JobKey(job.run.id, None if job.kind == "train" else int(job.folder.name))
    with sandbox.registry() as registry:
        registry.transition(key, frozenset(RunState), state)
    return job


def evaluation(sandbox: Sandbox, job: Job) -> Job:
    folder = job.run.evaluation(1)
    folder.path.mkdir(parents=True)
    shutil.copy(job.config, folder.job.config)
    EvaluationSpec("test", "best", time.time()).write(folder)
    with sandbox.registry() as registry:
        registry.create_evaluation(job.run.id, 1, "test", "best")
    sandbox.jobs.append(folder.job)
    return folder.job


def ran_on(job: Job, machine_id: str) -> None:
    """As if its newest attempt had been at work on that machine."""
    folder = job.attempt(1)
    folder.logs.mkdir(parents=True)
    agent = replace(self_identity(), machine_id=machine_id, host="elsewhere")
    Attempt(1, "t", 1, (), time.time(), agent=agent).write(folder)


def sentences(sandbox: Sandbox, *, dry_run: bool = False) -> dict[str, str]:
    return {str(deed.key): deed.sentence for deed in up(sandbox.workspace, dry_run=dry_run)}


def test_what_a_run_waited_for_may_be_removed_once_it_has_started(sandbox: Sandbox) -> None:
    first = ended(sandbox, RunState.COMPLETED)
    after = first.run.id
    second = sandbox.add_run(hold=True, nproc=1, demand=Demand(priority=3, after=after))
    QueueEntry(3, after).write(second)
    sandbox.held(sandbox.start(second))
    assert QueueEntry.read(second) == QueueEntry(3)
    with sandbox.registry() as registry:
        registry.delete_run(after)
    shutil.rmtree(first.run.path)
    sandbox.jobs.remove(first)
    supervisor = sandbox.supervisor(second)
    os.kill(supervisor.pid, signal.SIGTERM)
    assert sandbox.wait_end(second).state == RunState.PREEMPTED
    sandbox.release(second)
    wait_for("its supervisor's end", lambda: not supervisor.is_alive())
    assert sentences(sandbox) == {second.run.id: "was preempted; queued again; starts now"}
    assert sandbox.wait_end(second).state == RunState.COMPLETED


def test_orphaned_queued_and_preempted_jobs_go_on(sandbox: Sandbox) -> None:
    orphan = sandbox.start(sandbox.add_run(hold=True, nproc=1))
    sandbox.held(orphan)
    sandbox.kill_supervisor(orphan)
    sandbox.release(orphan)
    preempted, stopped = ended(sandbox, RunState.PREEMPTED), ended(sandbox, RunState.STOPPED)
    scored = evaluation(sandbox, ended(sandbox, RunState.COMPLETED))
    ended(sandbox, RunState.PREEMPTED, scored)
    queued = sandbox.add_run(nproc=1)
    told = sentences(sandbox)
    assert told == {
        orphan.run.id: "its supervisor died; it gets a new one; starts now",
        queued.run.id: "queued; starts now",
        preempted.run.id: "was preempted; queued again; starts now",
        f"{scored.run.id} eval 1": "was preempted; queued again; starts now",
    }
    assert conductor_is_alive(sandbox.workspace.runs)
    for job in (orphan, queued, preempted):
        assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert sandbox.wait_state(scored, {RunState.COMPLETED})
    assert JobState.read(stopped).state == RunState.STOPPED


def test_a_dry_run_only_tells(sandbox: Sandbox) -> None:
    job = ended(sandbox, RunState.PREEMPTED)
    assert sentences(sandbox, dry_run=True) == {job.run.id: "was preempted; queued again"}
    assert JobState.read(job).state == RunState.PREEMPTED
    assert not conductor_is_alive(sandbox.workspace.runs)


def test_twice_is_as_good_as_once(sandbox: Sandbox) -> None:
    job = sandbox.add_run(hold=True, nproc=1)
    ended(sandbox, RunState.PREEMPTED, job)
    sentences(sandbox)
    sandbox.held(job)
    wait_for("running", lambda: JobState.read(job).state == RunState.RUNNING)
    supervisor = sandbox.supervisor(job)
    assert sentences(sandbox) == {job.run.id: "running: nothing to do"}
    assert sandbox.supervisor(job) == supervisor
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert sentences(sandbox) == {}


def test_failures_before_the_preemption_still_count(sandbox: Sandbox) -> None:
    job = sandbox.add_run(hold=True, nproc=1)
    ended(sandbox, RunState.PREEMPTED, job)
    sentences(sandbox)
    assert sandbox.held(job).failures_before == 1


def test_jobs_of_other_machines_are_left_alone(sandbox: Sandbox) -> None:
    preempted = ended(sandbox, RunState.PREEMPTED)
    ran_on(preempted, "another")
    mine = ended(sandbox, RunState.PREEMPTED)
    ran_on(mine, self_identity().machine_id)
    at_work = sandbox.add_run()
    there = replace(self_identity(), machine_id="another", host="elsewhere", boot_id="b")
    JobState(RunState.RUNNING, "", 1, time.time(), supervisor=there).write(at_work)
    told = sentences(sandbox)
    assert told[preempted.run.id] == "was preempted on host elsewhere: left alone"
    assert told[at_work.run.id] == "lives on host elsewhere: left alone"
    assert told[mine.run.id].endswith("starts now")
    assert JobState.read(preempted).state == RunState.PREEMPTED
    assert JobState.read(at_work).supervisor == there
    sandbox.wait_end(mine)


def test_nothing_is_made_where_no_run_was(sandbox: Sandbox) -> None:
    shutil.rmtree(sandbox.workspace.runs.path)
    assert sentences(sandbox) == {}
    assert not sandbox.workspace.runs.path.exists()


def test_needs_neither_pydantic_nor_git(sandbox: Sandbox) -> None:
    """It runs at boot, when all is slow."""
    ended(sandbox, RunState.PREEMPTED, sandbox.add_run(nproc=1))
    program = (
        "import sys; from pathlib import Path; from orchestra.schedule.up import up;"
        "from orchestra.workspace import Workspace; from orchestra.wire.folders import RunsFolder;"
        "root = Path(sys.argv[1]);"
        "print(len(up(Workspace(root, RunsFolder(root / 'runs')), dry_run=False)));"
        "print(*sorted({'pydantic', 'git', 'numpy', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, sandbox.workspace.root],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n\n"
    assert isinstance(sandbox.wait_end(sandbox.jobs[0]), JobState)
    assert Path(sandbox.jobs[0].supervisor_log).is_file()
