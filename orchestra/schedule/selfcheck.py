"""`doctor --gpus N`: does this machine train? An all-reduce, and a job that is started, killed,
restarted, stopped and resumed, in a workspace that is thrown away. A minute, every wait bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from orchestra.gpu.leases import Leases
from orchestra.registry.rows import JobKey
from orchestra.schedule.conductor import conductor_is_alive
from orchestra.schedule.doctor import Check
from orchestra.schedule.spawn import own_environment
from orchestra.supervise import tree
from orchestra.supervise.lock import is_held
from orchestra.supervise.stop import stop_job
from orchestra.supervise.tail import newest_checkpoint
from orchestra.wire.errors import ConflictError, NotFoundError, OrchestraError
from orchestra.wire.folders import Job, RunFolder, RunsFolder
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import TAG, Attempt, JobState
from orchestra.wire.states import ENDED, RunState
from orchestra.workspace import Workspace, init_workspace

_T = TypeVar("_T")

_COMMAND_S = 60.0
_STEP_S = 60.0
_GOODBYE_S = 20.0
_POLL_S = 0.1
_CPU_RANKS = 2
_ENDLESS = 10**9
_EVERY = 20  # steps between checkpoints
_LAST_STEPS = 10  # after the resume


def selfcheck(gpus: int) -> Iterator[Check]:
    """The checks, each as soon as it is done; the first that fails is the last. 0 GPUs: CPU, gloo.

    Closing the iterator, or an exception such as Ctrl-C, leaves no process and no file behind.
    """
    with ExitStack() as leases:
        try:
            devices = (
                leases.enter_context(Leases()).acquire(gpus, (), "doctor", Path.cwd())
                if gpus
                else ()
            )
        except OrchestraError as error:
            yield Check("leases", False, str(error), "see `orchestra gpus`; wait, or ask for fewer")
            return
        check = _all_reduce(tuple(device.uuid for device in devices))
    yield check
    if check.ok:
        with tempfile.TemporaryDirectory(prefix="orchestra-doctor-") as folder:
            yield from _Miniature(Path(folder), gpus).checks()


def _all_reduce(uuids: tuple[str, ...]) -> Check:
    tag = f"doctor.1.{os.urandom(8).hex()}"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    ranks = len(uuids) or _CPU_RANKS
    try:
        done = subprocess.run(
            [sys.executable, "-P", *torchrun, str(ranks), "-m", "orchestra.train.selfcheck"],
            env={
                **own_environment(),
                TAG: tag,
                "SPT_NOENV": "1",
                "CUDA_VISIBLE_DEVICES": ",".join(uuids),
                "OMP_NUM_THREADS": "1",
                "PYTHONSAFEPATH": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
    except subprocess.TimeoutExpired:
        hint = "call it again with NCCL_DEBUG=INFO; try NCCL_P2P_DISABLE=1" if uuids else ""
        return Check("all-reduce", False, f"not done after {_COMMAND_S:g} s", hint)
    finally:
        tree.sweep(tag, _GOODBYE_S)
    return _judge(done.stdout, done.stderr)


def _judge(output: str, errors: str) -> Check:
    """From what rank 0 said."""
    try:
        said = json.loads(output.splitlines()[-1])
        text = f"sum over {said['ranks']} ranks by {said['backend']}"
        rate = said["bandwidth_bytes_per_s"] / 1e9
        ok = said["ok"]
    except (IndexError, KeyError, TypeError, ValueError):
        words = [line.strip() for line in errors.splitlines() if "Error" in line]
        detail = words[0] if words else "the ranks said nothing"
        return Check("all-reduce", False, detail, "call it again with NCCL_DEBUG=INFO")
    if not ok:
        return Check("all-reduce", False, f"{text} is wrong", "links or memory are broken")
    return Check("all-reduce", True, f"{text} is right" + (f", {rate:.1f} GB/s" if rate else ""))


class _Miniature:
    """The example task in a workspace of its own."""

    def __init__(self, folder: Path, gpus: int) -> None:
        root = init_workspace(folder / "workspace").root
        self._workspace = Workspace(root, RunsFolder(root / "runs"))
        # The user's settings are elsewhere: nobody wants a notice of these runs.
        self._environment = {**own_environment(), "XDG_CONFIG_HOME": os.fspath(folder / "config")}
        self._ranks = ["--gpus", str(gpus)] if gpus else ["--cpu", "--nproc", str(_CPU_RANKS)]
        self._run_id = ""

    def checks(self) -> Iterator[Check]:
        """Start, kill, stop, resume."""
        steps = (self._start, self._kill, self._stop, self._resume)
        try:
            for step in steps:
                name = f"job: {step.__name__.strip('_')}"
                begin_s = time.monotonic()
                try:
                    detail = step()
                except OrchestraError as error:
                    yield Check(name, False, str(error), self._last_words())
                    return
                yield Check(name, True, f"{detail} ({time.monotonic() - begin_s:.1f} s)")
        finally:
            self._clean()

    def _start(self) -> str:
        sets = {
            "train.max_steps": _ENDLESS,
            "train.max_hours": 0.1,  # should this process be killed
            "train.eval_every": _ENDLESS,
            "checkpoint.every": _EVERY,
            "launch.max_restarts": 2,
        }
        flags = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
        words = ["run", "example", "--preset", "debug", *self._ranks, *flags, "--detach", "--quiet"]
        self._run_id = self._orchestra(*words).strip()
        attempt = self._training(1)
        return f"{attempt.world_size} ranks train, and have saved step {self._checkpoint()}"

    def _kill(self) -> str:
        """SIGKILL of a rank: the supervisor restarts all from the newest checkpoint."""
        first = self._training(1)
        rank = ProcessIdentity.of(first.ranks[-1])
        if rank is None or not tree.kill(rank, first.tag):
            raise OrchestraError(f"rank {first.world_size - 1} died before it was killed")
        second = self._training(2)
        if tree.tagged(first.tag):
            raise OrchestraError("processes of the killed attempt are left")
        return f"a rank was killed; all train again, from step {second.first_step}"

    def _stop(self) -> str:
        self._orchestra("stop", self._run_id)
        self._wait("its end", lambda: self._state().state == RunState.STOPPED)
        return f"saved step {self._checkpoint()} and ended"

    def _resume(self) -> str:
        last = self._checkpoint() + _LAST_STEPS
        self._orchestra("resume", self._run_id, "--set", f"train.max_steps={last}", "--quiet")
        state = self._state()
        if state.state != RunState.COMPLETED:
            raise OrchestraError(f"it is {state.state.value}: {state.reason}")
        return f"went on to step {last}, evaluated, completed"

    def _orchestra(self, *words: str) -> str:
        """The command's stdout (OrchestraError if it fails)."""
        root, runs = os.fspath(self._workspace.root), os.fspath(self._workspace.runs.path)
        program = [sys.executable, "-P", "-m", "orchestra", "--workspace", root, "--runs-dir", runs]
        try:
            done = subprocess.run(
                [*program, *words],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_COMMAND_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise OrchestraError(
                f"`orchestra {words[0]}` is not done after {_COMMAND_S:g} s"
            ) from None
        if done.returncode != 0:
            raise OrchestraError(f"`orchestra {words[0]}`: {_last_line(done.stderr)}")
        return str(done.stdout)

    def _training(self, number: int) -> Attempt:
        """That attempt, once all its ranks train and it has saved a checkpoint of its own."""

        def there() -> Attempt | None:
            state = self._state()
            if state.state in ENDED:
                raise OrchestraError(f"it is {state.state.value}: {state.reason}")
            if state.attempt < number:
                return None
            attempt = Attempt.read(self._job.attempt(number))
            saved = self._checkpoint() > attempt.first_step
            return attempt if saved and len(attempt.ranks) == attempt.world_size else None

        return self._wait(f"attempt {number} to train", there)

    def _wait(self, what: str, condition: Callable[[], _T | None]) -> _T:
        deadline = time.monotonic() + _STEP_S
        while not (value := condition()):
            if time.monotonic() >= deadline:
                raise OrchestraError(f"waited {_STEP_S:g} s for {what}")
            time.sleep(_POLL_S)
        return value

    @property
    def _job(self) -> Job:
        return self._workspace.runs.run(self._run_id).job

    def _state(self) -> JobState:
        return JobState.read(self._job)

    def _checkpoint(self) -> int:
        return newest_checkpoint(self._job.run)

    def _last_words(self) -> str:
        """The last line of the newest log there is: after this, the folder is gone."""
        if not self._run_id:
            return ""
        logs = [path for folder in self._job.attempts() for path in folder.logs.glob("*.log")]
        texts = [_last_line(path.read_text(errors="replace")) for path in logs]
        return "; ".join(text for text in texts[-3:] if text)

    def _clean(self) -> None:
        """Kill what is still at work, and wait until it has gone."""
        runs = self._workspace.runs
        jobs = [RunFolder(path.parent).job for path in runs.path.glob("*/run.json")]
        for job in jobs:
            with contextlib.suppress(ConflictError, NotFoundError):  # it has ended
                stop_job(self._workspace, JobKey(job.run.id), now=True)
        deadline = time.monotonic() + _GOODBYE_S
        while conductor_is_alive(runs) or any(is_held(job.lock) for job in jobs):
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL_S)
        attempts = [folder for job in jobs for folder in job.attempts()]
        tags = {Attempt.read(folder).tag for folder in attempts if folder.attempt.is_file()}
        tree.sweep(tags, _GOODBYE_S)


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
