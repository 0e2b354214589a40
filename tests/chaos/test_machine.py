"""What the machine does to a run: its disks, memory, ports and clock."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.wire.job import JobState
from orchestra.wire.states import AttemptState, RunState
from tests.chaos import chain
from tests.chaos.chain import Link
from tests.chaos.matrix import Saw
from tests.chaos.real import EVERY, RealSandbox
from tests.chaos.sandbox import Sandbox
from tests.fakes.clock import make_clock
from tests.fakes.disk import fill, mounted, read_only

DAY_S = 86_400


@pytest.fixture
def on_small_disk(tmp_path: Path) -> Iterator[RealSandbox]:
    with mounted(tmp_path / "disk", mebibytes=16) as disk:
        sandbox = RealSandbox(disk)
        yield sandbox
        sandbox.clean()


@pytest.mark.chaos
@pytest.mark.fault("disk full")
def test_training_goes_on_while_the_disk_is_full(on_small_disk: RealSandbox, saw: Saw) -> None:
    real = on_small_disk
    job = real.start(real.add_real_run(steps=60, task={"delay_s": 0.1}))
    started = real.at_step(job, 2 * EVERY, attempt=1)
    filler = fill(real.workspace.root)
    full_from = max(beat.step for beat in real.beats(job))
    real.at_step(job, full_from + 10, attempt=1)
    kept = len(list(job.run.checkpoints.glob("step-*")))
    filler.unlink()
    assert real.wait_end(job).state == RunState.COMPLETED
    (attempt,) = real.attempts(job)
    assert attempt.ranks == tuple(beat.pid for beat in started)
    assert (attempt.state, attempt.last_step) == (AttemptState.COMPLETED, 60)
    assert job.run.checkpoint(60).is_dir()
    saw(f"10 steps without a save, {kept} checkpoints kept, then saved again; completed")


@pytest.mark.chaos
@pytest.mark.fault("read-only folder")
def test_a_folder_that_cannot_be_written(real: RealSandbox, saw: Saw) -> None:
    job = real.add_real_run(steps=4, nproc=1)
    job.run.checkpoints.mkdir()
    with read_only(job.run.checkpoints):
        state = real.wait_end(real.start(job))
    (attempt,) = real.attempts(job)
    assert state.state == RunState.FAILED
    assert attempt.failure is not None
    assert attempt.failure["cause"] == "config"
    assert "checkpoints" in state.reason
    saw(f"{attempt.failure['cause']}: {state.reason.partition(': ')[2].rpartition('/')[2]}")


@pytest.mark.chaos
@pytest.mark.fault("out of memory, oom_split", "foreign MASTER_PORT")
def test_micro_batches_are_cut_and_no_port_of_the_environment_is_used(
    real: RealSandbox, saw: Saw, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(port))
        link = Link(
            "out of memory, oom_split", "allocate_tensor", "out of memory", "in a training step of"
        )
        (told,) = chain.run(real, [link], launch={"oom_split": True})
    assert told.following is not None
    assert (told.attempt.split, told.following.split) == (1, 2)
    assert told.following.state == AttemptState.COMPLETED
    assert "the run is no longer exact" in told.attempt.reason
    told.check(saw)
    saw("micro-batches cut in 2, not exact, completed")
    saw(f"port {port} was in use all the time; completed", fault="foreign MASTER_PORT")


@pytest.mark.fault("clock jump")
def test_a_wall_clock_that_jumps(
    sandbox: Sandbox, saw: Saw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = make_clock(tmp_path)
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    deadlines = {"step_deadline_s": 20.0, "long_deadline_s": 60.0}
    job = sandbox.start(sandbox.add_run(hold=True, launch=deadlines))
    attempt = sandbox.held(job)
    for to_s in (DAY_S, -DAY_S):
        clock.jump(to_s)
        time.sleep(1.0)  # what is injected: several turns of the supervisor at that time
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    (ended,) = sandbox.attempts(job)
    assert ended.ranks == attempt.ranks
    assert ended.ended_at is not None
    assert ended.ended_at < time.time() - DAY_S / 2, "its clock was the one that jumped"
    saw("same processes, no restart, completed")


@pytest.mark.fault("shared memory full")
def test_no_room_for_heartbeats(sandbox: Sandbox, saw: Saw) -> None:
    """As in a container with a small /dev/shm that others have filled."""
    job = sandbox.add_run(nproc=1)
    command = [sys.executable, "-m", "orchestra.supervise", str(job.folder), "--kind", job.kind]
    folders = ["--runs", str(sandbox.workspace.runs.path), "--workspace", str(job.folder)]
    full = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && echo > /dev/shm/full && exec "$@"'
    own = ["unshare", "--mount", "sh", "-c", full, "sh"]
    if not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "true"]).returncode:
        pytest.skip("needs the right to mount")
    done = subprocess.run([*own, *command, *folders], capture_output=True, timeout=60)
    state = JobState.read(job)
    assert state.state == RunState.FAILED, done.stderr
    assert "/dev/shm" in state.reason
    (attempt,) = sandbox.attempts(job)
    assert attempt.failure is not None
    assert attempt.failure["cause"] == "disk full"
    assert not sandbox.alive(job)
    saw(state.reason)
