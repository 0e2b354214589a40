"""The life of one job, from taking over to its last state. `Supervisor.run` is the whole story.

One process, one thread, one job. Everything that must survive it is on disk before it is needed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry
from orchestra.supervise.attempt import Outcome, Watch
from orchestra.supervise.events import Events
from orchestra.supervise.failure import Failure, classify, gather
from orchestra.supervise.launch import Launch, Settings, code_folder, new_tag, read_settings
from orchestra.supervise.log import log
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.policy import History, decide
from orchestra.supervise.reaper import Reaper
from orchestra.supervise.settle import clear, settle
from orchestra.supervise.state import JobRecord
from orchestra.supervise.tail import Tail, newest_checkpoint
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.files import is_disk_full
from orchestra.wire.folders import AttemptFolder, Job, RunsFolder
from orchestra.wire.identity import ProcessIdentity, self_identity
from orchestra.wire.job import Attempt, Result, StopFlag, config_sha256
from orchestra.wire.states import ENDED, AttemptState, RunState

_LAST_WRITES_S = 30.0
_DRAIN_S = 10.0  # the driver frees the memory of a killed process some time after its death
_LEASE_PAUSE_S = 0.5
_TURN_S = 0.2


class Supervisor:
    """Owns one job while it holds the job's lock."""

    def __init__(
        self,
        job: Job,
        key: JobKey,
        runs: RunsFolder,
        workspace: Path,
        registry: Registry,
        handed: Mapping[str, int],
    ) -> None:
        """`handed`: UUID -> descriptor of the leases that the dispatcher took for the job."""
        self._job = job
        self._runs = runs
        self._workspace = workspace
        self._registry = registry
        self._handed = handed
        self._mirror = Mirror()
        self._record = JobRecord(job, key, registry, self._mirror, supervisor=self_identity())
        self._metrics = MetricStore(job.run.metrics)
        self._events = Events()
        self._reaper = Reaper()
        self._failure: Failure | None = None  # of the attempt before

    def run(self) -> RunState:
        """Take the job to an end state, or back to queued if its GPUs are taken."""
        try:
            self._supervise()
        except (OrchestraError, OSError) as error:
            self._fail(str(error))
        self._finish_writes()
        return self._record.state.state

    def _supervise(self) -> None:
        try:
            self._take_over()
            if self._record.state.state not in ENDED:
                self._work()
        except ConflictError as error:
            if StopFlag.read(self._job) is None:
                self._record.move(RunState.QUEUED, str(error))
            else:
                self._end_stopped(None)

    def _fail(self, reason: str) -> None:
        """End a job that can't be supervised any more; its processes are gone by now."""
        if is_disk_full(self._job.folder):
            run = self._job.run.id
            reason += (
                f"; the disk of {self._runs.path} is full: make room, then `orchestra resume {run}`"
            )
        with contextlib.suppress(OrchestraError, OSError):  # the state below tells the same
            settle(self._record, f"its supervisor failed: {reason}")
        self._record.fail(reason)

    def _work(self) -> None:
        """Launch, watch, clean up, judge; again until the job has ended."""
        settings = read_settings(self._job.config)
        code = code_folder(self._runs, self._job)
        with ExitStack() as leases:
            devices = self._lease(settings, leases)
            while self._record.state.state not in ENDED:
                if self._stop_flag(settings) is not None:
                    self._end_stopped(None)
                    return
                launch = self._prepare(settings, code, devices)
                folder = self._job.attempt(launch.attempt)
                try:
                    attempt = self._start(launch, folder)
                    outcome = self._watch(launch, folder, attempt)
                finally:  # whatever went wrong: no rank outlives the leases
                    remains = clear(launch.tag)
                    self._reaper.reap()
                self._conclude(launch, folder, attempt, outcome, remains)

    def _take_over(self) -> None:
        """Start afresh, or continue what a dead supervisor left."""
        found = self._record.state
        newest = settle(self._record)
        if found.state == RunState.QUEUED:
            flag = StopFlag.read(self._job)
            if flag is not None and flag.requested_at < found.updated_at:
                self._job.stop.unlink()  # it was meant for an earlier life of the job
            self._record.move(RunState.STARTING)
            return
        self._record.move(RunState.RESTARTING, "the supervisor had died; a new one goes on")
        if newest is None:
            return
        folder = self._job.attempt(newest.number)
        # What the dead one did not pass on; records that are known already change nothing.
        tail = self._tail(folder, newest)
        tail.close()
        if newest.state == AttemptState.LOST:
            self._record.update_attempt(folder, replace(newest, last_step=tail.step))
        result = Result.read(folder)
        if result is not None and result.outcome == "completed":
            self._record.move(RunState.COMPLETED, result.reason)

    def _tail(self, folder: AttemptFolder, attempt: Attempt) -> Tail:
        return Tail(
            self._job,
            folder,
            self._registry,
            self._metrics,
            self._mirror,
            first_step=attempt.first_step,
        )

    def _history(self, attempt: Attempt) -> History:
        return History(
            failures_before=attempt.failures_before,
            first_checkpoint=attempt.first_step,
            newest_checkpoint=self._newest_checkpoint(),
            before=self._failure,
        )

    def _lease(self, settings: Settings, leases: ExitStack) -> tuple[str, ...]:
        """The UUIDs of the GPUs this job may use; ConflictError if they don't become free soon."""
        if settings.device == "cpu":
            return ()
        from orchestra.gpu.leases import Leases

        if self._handed:
            adopted = Leases.adopt(self._handed, self._job.run.id, self._workspace)
            leases.enter_context(adopted)
            return tuple(self._handed)
        held = leases.enter_context(Leases())
        deadline = time.monotonic() + _DRAIN_S
        while True:
            try:
                devices = held.acquire(
                    settings.nproc, settings.gpu_ids, self._job.run.id, self._workspace
                )
            except ConflictError:
                if time.monotonic() > deadline or self._stop_flag(settings) is not None:
                    raise
                self._events.wait(_LEASE_PAUSE_S)
            else:
                return tuple(device.uuid for device in devices)

    def _prepare(self, settings: Settings, code: Path, devices: tuple[str, ...]) -> Launch:
        number = max((folder.number for folder in self._job.attempts()), default=0) + 1
        return Launch(
            job=self._job,
            attempt=number,
            tag=new_tag(self._job, number),
            code=code,
            workspace=self._workspace,
            settings=settings,
            devices=devices,
        )

    def _start(self, launch: Launch, folder: AttemptFolder) -> Attempt:
        """Write the attempt down, then start its agent."""
        step = self._newest_checkpoint()
        attempt = Attempt(
            number=launch.attempt,
            tag=launch.tag,
            world_size=launch.settings.nproc,
            devices=launch.devices,
            started_at=time.time(),
            first_step=step,
            last_step=step,
            config_sha256=config_sha256(self._job),
            failures_before=self._record.state.failures,
            command=launch.plain_command(),
        )
        environment = launch.environment(os.environ)
        try:
            folder.logs.mkdir(parents=True)
            self._record.begin_attempt(folder, attempt)
            pid = self._reaper.start(launch.command(), environment, folder.agent_log)
        except OSError as error:
            raise OrchestraError(f"attempt {launch.attempt} can't be started: {error}") from error
        attempt = replace(attempt, agent=ProcessIdentity.of(pid))
        self._record.update_attempt(folder, attempt)
        log(f"attempt {launch.attempt}: agent pid {pid}, tag {launch.tag}")
        return attempt

    def _watch(self, launch: Launch, folder: AttemptFolder, attempt: Attempt) -> Outcome:
        """Stay with the attempt until its agent has ended."""
        assert attempt.agent is not None
        return Watch(
            agent_pid=attempt.agent.pid,
            tag=launch.tag,
            nproc=launch.settings.nproc,
            events=self._events,
            reaper=self._reaper,
            tail=self._tail(folder, attempt),
            stop_flag=lambda: self._stop_flag(launch.settings),
            on_ranks=lambda ranks: self._record.update_attempt(
                folder, replace(attempt, ranks=ranks)
            ),
            on_running=self._report_running,
            on_stopping=lambda: self._record.move(RunState.STOPPING, "stop was asked for"),
            on_turn=self._record.flush,
        ).run()

    def _stop_flag(self, settings: Settings) -> StopFlag | None:
        """The flag; SIGTERM to the supervisor raises it too."""
        flag = StopFlag.read(self._job)
        if flag is None and self._events.termination_requested:
            flag = StopFlag(time.time(), settings.grace_s)
            flag.write(self._job)
        return flag

    def _report_running(self) -> None:
        if self._record.state.state != RunState.STOPPING:
            self._record.move(RunState.RUNNING)

    def _conclude(
        self,
        launch: Launch,
        folder: AttemptFolder,
        attempt: Attempt,
        outcome: Outcome,
        remains: str,
    ) -> None:
        """Close the attempt, and end the job or pause before the next launch."""
        if self._job.kind == "train":
            attempt = replace(attempt, first_step=outcome.first_step)
        close = partial(
            replace,
            attempt,
            ended_at=time.time(),
            ranks=tuple(beat.pid for beat in outcome.beats),
            last_step=outcome.step,
        )
        result = Result.read(folder)
        if result is not None and result.outcome == "completed":
            self._record.end_attempt(folder, close(state=AttemptState.COMPLETED, reason=remains))
            reason = "; ".join(filter(None, (result.reason, remains)))
            self._record.move(RunState.COMPLETED, reason)
        elif result is not None or self._stop_flag(launch.settings) is not None:
            self._record.end_attempt(folder, close(state=AttemptState.STOPPED, reason=remains))
            self._end_stopped(result)
        else:
            # An evaluation takes no steps: its beats tell that of the checkpoint.
            beats = outcome.beats if self._job.kind == "train" else ()
            failure = classify(
                gather(folder, outcome.agent, outcome.first_dead, outcome.step, beats)
            )
            history = self._history(attempt)
            decision = decide(failure, history, launch.settings.budget)
            self._failure = failure
            reason = "; ".join(filter(None, (decision.sentence, remains)))
            crashed = close(state=AttemptState.CRASHED, reason=reason, last_step=failure.step)
            self._record.end_attempt(folder, crashed)
            if decision.restart:
                self._record.move(RunState.RESTARTING, reason, failures=history.failures)
                self._pause(decision.delay_s, launch.settings)
            else:
                self._record.move(RunState.FAILED, reason)

    def _newest_checkpoint(self) -> int:
        """Where the next attempt starts; 0 for an evaluation, which always does from its start."""
        return newest_checkpoint(self._job.run) if self._job.kind == "train" else 0

    def _end_stopped(self, result: Result | None) -> None:
        step = self._newest_checkpoint()
        if self._job.kind != "train":
            reason = "stopped on request"
        elif result is not None:
            reason = f"stopped on request at step {result.step}"
        elif step:
            reason = f"stopped on request without a new save; the newest checkpoint is step {step}"
        else:
            reason = "stopped on request before the first checkpoint"
        self._record.move(RunState.STOPPED, reason)
        self._job.stop.unlink(missing_ok=True)

    def _pause(self, delay_s: float, settings: Settings) -> None:
        """Back off; a stop ends it early."""
        deadline = time.monotonic() + delay_s
        while (left_s := deadline - time.monotonic()) > 0 and self._stop_flag(settings) is None:
            self._events.wait(min(_TURN_S, left_s))
            self._reaper.reap()
            self._flush()

    def _finish_writes(self) -> None:
        """Folder and registry get what they did not take before, unless they stay broken."""
        deadline = time.monotonic() + _LAST_WRITES_S
        while not self._flush() and time.monotonic() < deadline:
            self._events.wait(_TURN_S)

    def _flush(self) -> bool:
        return all([self._record.flush(), self._mirror.flush()])
