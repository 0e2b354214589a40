"""Runs the user's `notify.command` when a job failed, completed or stalled: one JSON on its stdin.

    [notify]
    command = "curl -sS -H 'Content-Type: application/json' -d @- https://..."

Whatever becomes of the command is told and ends no job.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestra.settings import user_settings
from orchestra.supervise import tree
from orchestra.supervise.reaper import Reaper
from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import write_atomic
from orchestra.wire.folders import Job
from orchestra.wire.job import JOB, RUN, TAG, JobState

if TYPE_CHECKING:
    from orchestra.registry.rows import JobKey
    from orchestra.registry.store import Registry

Event = Literal["failed", "completed", "stalled"]

_LONGEST_S = 30.0
_KILL_S = 1.0


@dataclass(frozen=True)
class _Running:
    event: Event
    pid: int
    tag: str
    overdue: float  # monotonic


class Notifier:
    """The commands of one job. Main thread only: they are children of the supervisor.

    Args:
        command: argv; empty: nobody is to be told.
        complain: takes a sentence about a command that failed.
        longest_s: a command that takes longer is killed.
    """

    def __init__(
        self,
        job: Job,
        reaper: Reaper,
        command: Sequence[str],
        complain: Callable[[str], None],
        *,
        longest_s: float = _LONGEST_S,
    ) -> None:
        self._job = job
        self._reaper = reaper
        self._command = tuple(command)
        self._complain = complain
        self._longest_s = longest_s
        self._running: list[_Running] = []
        self._told = 0

    def tell(self, event: Event, document: dict[str, Any]) -> None:
        """Start the command with {"event": ..., **document} and don't wait for it."""
        self.look()
        if not self._command:
            return
        self._told += 1
        tag = f"{self._job.run.id}.notice{self._told}.{os.urandom(8).hex()}"
        notice = self._job.folder / f"notice-{self._told}.json"
        try:
            write_atomic(notice, json.dumps({"event": event, **document}).encode() + b"\n")
            pid = self._start(notice, tag)
        except (OrchestraError, OSError) as error:
            self._complain(f"notify.command ({self._command[0]}) can't be run: {error}")
        else:
            self._running.append(_Running(event, pid, tag, time.monotonic() + self._longest_s))
        finally:
            notice.unlink(missing_ok=True)  # the child has opened it

    def look(self) -> None:
        """Note which commands have ended, and end those that take too long."""
        self._reaper.reap()
        running, self._running = self._running, []
        for each in running:
            status = self._reaper.status(each.pid)
            if status is None and time.monotonic() < each.overdue:
                self._running.append(each)
            elif status is None:
                tree.sweep(each.tag, _KILL_S)  # the command and all that it started
                self._reaper.reap()
                self._complain(f"{self._about(each)} took more than {self._longest_s:g} s: killed")
            elif status.code or status.signal:
                how = f"by signal {status.signal}" if status.signal else f"with code {status.code}"
                self._complain(
                    f"{self._about(each)} ended {how}; what it said is in supervisor.log"
                )

    def finish(self) -> None:
        """Wait for the commands, each as long as it may take, then return."""
        self.look()
        while self._running:
            first_due = min(each.overdue for each in self._running)
            self._wait(max(0.0, first_due - time.monotonic()))
            self.look()

    def _start(self, notice: Path, tag: str) -> int:
        import shutil  # a tenth of the supervisor's start, and hardly ever needed

        program = shutil.which(self._command[0])
        if program is None:
            raise OrchestraError("there is no such program in PATH")
        environment = {
            **os.environ,
            RUN: self._job.run.id,
            JOB: os.fspath(self._job.folder),
            TAG: tag,
        }
        argv = [program, *self._command[1:]]
        with notice.open("rb") as file:
            log = self._job.supervisor_log
            return self._reaper.start(argv, environment, log, stdin=file.fileno())

    def _wait(self, timeout_s: float) -> None:
        """Sleep until one of the commands has ended."""
        poll = select.poll()
        descriptors = [os.pidfd_open(each.pid) for each in self._running]
        try:
            for descriptor in descriptors:
                poll.register(descriptor, select.POLLIN)
            poll.poll(timeout_s * 1000)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _about(self, running: _Running) -> str:
        return f"notify.command ({self._command[0]}) for {running.event!r}"


def notify_command(complain: Callable[[str], None]) -> tuple[str, ...]:
    """The user's command; empty if there is none, or if the settings are wrong, which is told."""
    try:
        return user_settings().notify_command
    except OrchestraError as error:
        complain(f"nobody will be notified: {error}")
        return ()


def notice(registry: Registry, key: JobKey, state: JobState, workspace: Path) -> dict[str, Any]:
    """What is told about a job; `score` where it has one."""
    document = {
        "run": key.run_id,
        "name": key.run_id,
        "task": None,
        "kind": "train" if key.evaluation is None else "evaluate",
        "evaluation": key.evaluation,
        "state": state.state.value,
        "reason": state.reason,
        "step": None,
        "host": socket.gethostname(),
        "workspace": os.fspath(workspace),
        "time": time.time(),
    }
    try:
        row = registry.get_run(key.run_id)
        rows = registry.evaluations(key.run_id) if key.evaluation is not None else []
    except (OrchestraError, sqlite3.Error):  # removed or locked: the rest is told all the same
        return document
    score = row.score
    if key.evaluation is not None:
        metrics = next((each.metrics for each in rows if each.number == key.evaluation), {})
        score = metrics.get(row.metric or "")
    known = score is not None and math.isfinite(score)
    found = {"score": score, "metric": row.metric} if known else {}
    return {**document, "name": row.name, "task": row.task, "step": row.step, **found}
