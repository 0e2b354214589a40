"""The life of one job, from taking over to its last state. `Supervisor.run` is the whole story.

One process, one thread, one job. Everything that must survive it is on disk before it is needed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry
from orchestra.supervise.attempt import Outcome, Watch
from orchestra.supervise.devices import drain, lease
from orchestra.supervise.events import Events
from orchestra.supervise.evidence import next_split
from orchestra.supervise.launch import Launch, Settings, code_folder, new_tag, read_settings
from orchestra.supervise.launcher import Agent, Launcher
from orchestra.supervise.log import log
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.notify import Event, Notifier, notice, notify_command
from orchestra.supervise.reaper import Reaper
from orchestra.supervise.settle import clear, settle
from orchestra.supervise.state import JobRecord
from orchestra.supervise.tail import Tail
from orchestra.supervise.verdict import after_silence, judge, start_of_next, why_stopped
from orchestra.wire.errors import ConflictError, DiskFullError, OrchestraError
from orchestra.wire.files import is_disk_full
from orchestra.wire.folders import AttemptFolder, Job, RunsFolder
from orchestra.wire.identity import ProcessIdentity, boot_id, self_identity
from orchestra.wire.job import Attempt, JobState, Result, StopFlag, config_sha256
from orchestra.wire.states import ENDED, AttemptState, RunState

_LAST_WRITES_S = 30.0
_TURN_S = 0.2
_LIVES = 2  # supervisors that may die without a new checkpoint, whatever launch.max_restarts says
_CONDUCTOR_S = 5.0  # after so long a killed conductor is replaced


@dataclass
class _AtWork:
    """The attempt that is under way; `document` is as it stands on record."""

    folder: AttemptFolder
    document: Attempt
    agent: Agent


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
        keep_conductor: Callable[[], object],
        reap_dead: Callable[[], object],
    ) -> None:
        """Take the job over, but start nothing yet.

        Args:
            handed: UUID -> descriptor of the leases that the dispatcher took for the job.
            keep_conductor: called every few seconds; starts a conductor where there is none.
            reap_dead: called before a launch; kills what dead runs have left.
        """
        self._job = job
        self._runs = runs
        self._workspace = workspace
        self._registry = registry
        self._handed = handed
        self._keep_conductor = keep_conductor
        self._conductor_due = time.monotonic() + _CONDUCTOR_S
        self._reap_dead = reap_dead
        self._signalled: StopFlag | None = None
        self._mirror = Mirror()
        self._record = JobRecord(job, key, registry, self._mirror, supervisor=self_identity())
        self._metrics = MetricStore(job.run.metrics)
        self._events = Events()
        self._reaper = Reaper()
        self._launcher = Launcher(new_tag(job, 0), self._reaper, self._events)
        complain = partial(self._record.note, "notice")
        self._notifier = Notifier(job, self._reaper, notify_command(complain), complain)

    def run(self) -> RunState:
        """Take the job to an end state, or back to queued if its GPUs are taken."""
        try:
            self._supervise()
        except (OrchestraError, OSError) as error:
            self._fail(str(error))
        self._finish_writes()
        self._tell_the_end()
        return self._record.state.state

    def _tell_the_end(self) -> None:
        state = self._record.state
        if state.state == RunState.COMPLETED:
            self._notify("completed", state)
        elif state.state == RunState.FAILED:
            self._notify("failed", state)

    def finish(self) -> None:
        """Wait, bounded, for the notices. The job may have another owner by then."""
        self._notifier.finish()

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
        with ExitStack() as held:
            devices = lease(
                settings,
                self._job.run.id,
                self._workspace,
                self._handed,
                held,
                self._events.wait,
                lambda: self._stop_flag(settings) is not None,
            )
            held.callback(self._let_launcher_go)
            while self._record.state.state not in ENDED:
                if self._stop_flag(settings) is not None:
                    self._end_stopped(None)
                    return
                launch = self._prepare(settings, code, devices)
                folder = self._job.attempt(launch.attempt)
                try:
                    current = self._start(launch, folder)
                    outcome = self._watch(launch, current)
                finally:  # whatever went wrong: no rank outlives the leases
                    remains = clear(launch.tag)
                    self._reaper.reap()
                remains = "; ".join(filter(None, (remains, drain(devices, self._events.wait))))
                self._conclude(launch, current, outcome, remains)

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
        failures = found.failures + self._took_it_down(found, newest)
        self._record.move(
            RunState.RESTARTING, "the supervisor had died; a new one goes on", failures=failures
        )
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
        elif failures > max(_LIVES, read_settings(self._job.config).budget.max_restarts):
            self._record.move(
                RunState.FAILED,
                f"its supervisor died; gave up after {failures} failures without a new checkpoint",
            )

    def _took_it_down(self, found: JobState, newest: Attempt | None) -> bool:
        """Whether an attempt that saved nothing may be what killed its supervisor, too.

        A reboot is nobody's failure.
        """
        return (
            newest is not None
            and newest.state == AttemptState.LOST
            and found.supervisor is not None
            and found.supervisor.boot_id == boot_id()
            and start_of_next(self._job) <= newest.first_step
        )

    def _tail(self, folder: AttemptFolder, attempt: Attempt) -> Tail:
        return Tail(
            self._job,
            folder,
            self._registry,
            self._metrics,
            self._mirror,
            first_step=attempt.first_step,
        )

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

    def _let_launcher_go(self) -> None:
        self._launcher.close()
        clear(self._launcher.tag)
        self._reaper.reap()

    def _start(self, launch: Launch, folder: AttemptFolder) -> _AtWork:
        """Write the attempt down, then ask for its agent."""
        step = start_of_next(self._job)
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
            split=next_split(self._job) if launch.settings.oom_split else 1,
            command=launch.plain_command(),
            launcher=self._launcher.tag,
        )
        log(f"attempt {launch.attempt}, tag {launch.tag}")
        self._reap_dead()
        try:
            folder.logs.mkdir(parents=True)
            self._record.begin_attempt(folder, attempt)
            return _AtWork(folder, attempt, self._launcher.fork(launch, folder.agent_log))
        except OSError as error:
            raise OrchestraError(f"attempt {launch.attempt} can't be started: {error}") from error

    def _watch(self, launch: Launch, current: _AtWork) -> Outcome:
        """Stay with the attempt until its agent has ended."""

        def note(**changes: Any) -> None:
            current.document = replace(current.document, **changes)
            self._record.update_attempt(current.folder, current.document)

        return Watch(
            agent=current.agent,
            folder=current.folder,
            tag=launch.tag,
            nproc=launch.settings.nproc,
            deadlines=launch.settings.deadlines,
            events=self._events,
            tail=self._tail(current.folder, current.document),
            stop_flag=lambda: self._stop_flag(launch.settings),
            on_agent=lambda pid: note(agent=ProcessIdentity.of(pid)),
            on_ranks=lambda ranks: note(ranks=ranks),
            on_running=self._report_running,
            on_stopping=lambda: self._record.move(RunState.STOPPING, "stop was asked for"),
            on_stall=self._report_stall,
            after_silence=lambda silence: after_silence(
                self._job, current.document, silence, launch.settings
            ),
            on_turn=self._look_after_the_rest,
        ).run()

    def _look_after_the_rest(self) -> None:
        self._reaper.reap()
        self._notifier.look()
        self._flush()
        self._look_after_conductor()

    def _look_after_conductor(self) -> None:
        now = time.monotonic()
        if now < self._conductor_due:
            return
        self._conductor_due = now + _CONDUCTOR_S
        try:
            self._keep_conductor()
        except OrchestraError as error:  # this job goes on without one
            log(str(error))

    def _stop_flag(self, settings: Settings) -> StopFlag | None:
        """The flag; a signal to the supervisor raises it too."""
        flag = StopFlag.read(self._job)
        if flag is None and self._events.termination_requested:
            self._signalled = self._signalled or StopFlag(
                time.time(), settings.grace_s, preempted=True
            )
            flag = self._signalled
            with contextlib.suppress(DiskFullError):  # then the ranks end without a save
                flag.write(self._job)
        return flag

    def _report_stall(self, sentence: str) -> None:
        self._record.note("hang", sentence)
        self._notify("stalled", replace(self._record.state, reason=sentence))

    def _notify(self, event: Event, state: JobState) -> None:
        told = notice(self._registry, self._record.key, state, self._workspace)
        self._notifier.tell(event, told)

    def _report_running(self) -> None:
        if self._record.state.state != RunState.STOPPING:
            self._record.move(RunState.RUNNING)

    def _conclude(
        self,
        launch: Launch,
        current: _AtWork,
        outcome: Outcome,
        remains: str,
    ) -> None:
        """Close the attempt, and end the job or pause before the next launch."""
        folder, attempt = current.folder, current.document
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
            failure, decision = judge(self._job, folder, attempt, outcome, launch.settings)
            reason = "; ".join(filter(None, (decision.sentence, remains)))
            crashed = close(
                state=AttemptState.CRASHED,
                reason=reason,
                last_step=failure.step,
                failure={**failure.to_json(), **decision.to_json()},
            )
            self._record.end_attempt(folder, crashed)
            if decision.restart:
                self._record.move(RunState.RESTARTING, reason, failures=decision.failures)
                self._pause(decision.delay_s, launch.settings)
            else:
                self._record.move(RunState.FAILED, reason)

    def _end_stopped(self, result: Result | None) -> None:
        flag = StopFlag.read(self._job) or self._signalled
        state = RunState.PREEMPTED if flag and flag.preempted else RunState.STOPPED
        self._record.move(state, why_stopped(self._job, flag, result))
        self._job.stop.unlink(missing_ok=True)

    def _pause(self, delay_s: float, settings: Settings) -> None:
        """Back off; a stop ends it early."""
        deadline = time.monotonic() + delay_s
        while (left_s := deadline - time.monotonic()) > 0 and self._stop_flag(settings) is None:
            self._events.wait(min(_TURN_S, left_s))
            self._look_after_the_rest()

    def _finish_writes(self) -> None:
        """Folder and registry get what they did not take before, unless they stay broken."""
        deadline = time.monotonic() + _LAST_WRITES_S
        while not self._flush() and time.monotonic() < deadline:
            self._events.wait(_TURN_S)

    def _flush(self) -> bool:
        return all([self._record.flush(), self._mirror.flush()])
