"""The one place that changes a job's state: first its folder, then the registry.

Only the holder of the job's lock may use this. A full disk delays a document, it ends no job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.supervise.log import log
from orchestra.supervise.mirror import Mirror
from orchestra.wire.errors import DiskFullError, OrchestraError
from orchestra.wire.folders import AttemptFolder, Job
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import ENDED, RunState

if TYPE_CHECKING:
    from orchestra.registry.rows import JobKey
    from orchestra.registry.store import Registry


class JobRecord:
    """A job's state and attempts, on disk and in the registry."""

    def __init__(
        self,
        job: Job,
        key: JobKey,
        registry: Registry,
        mirror: Mirror,
        *,
        supervisor: ProcessIdentity | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.job = job
        self.key = key
        self.registry = registry
        self.mirror = mirror
        self.state = JobState.read(job)
        self._supervisor = supervisor
        self._now = now
        self._late: dict[Path, Callable[[], None]] = {}

    def move(self, to: RunState, reason: str = "", *, failures: int | None = None) -> None:
        """Enter a state; `reason` is one sentence, empty while all is well.

        Raises:
            OrchestraError: the folder can't be written. The registry has been told all the same.
        """
        owner = None if to in ENDED or to == RunState.QUEUED else self._supervisor
        self.state = replace(
            self.state,
            state=to,
            reason=reason,
            updated_at=self._now(),
            supervisor=owner,
            failures=self.state.failures if failures is None else failures,
        )
        log(f"{to.value}{': ' if reason else ''}{reason}")
        try:
            self._write(self.job.state, partial(self.state.write, self.job))
        finally:
            # The lock makes its holder the only author, so the registry may be in any state: it
            # may have missed what a dead supervisor wrote last.
            self.mirror.add(
                self.registry.transition,
                self.key,
                frozenset(RunState),
                to,
                reason=reason,
                supervisor=owner,
            )

    def fail(self, reason: str) -> None:
        """Enter `failed`, whatever can be written: a folder that can't be is tried again later."""
        try:
            self.move(RunState.FAILED, reason)
        except OrchestraError as error:
            log(str(error))
            self.mirror.add(self.state.write, self.job)

    def begin_attempt(self, folder: AttemptFolder, attempt: Attempt) -> None:
        """Record an attempt before its first process starts: its tag must survive us."""
        attempt.write(folder)
        self.state = replace(self.state, attempt=attempt.number)
        self._write(self.job.state, partial(self.state.write, self.job))
        self.mirror.add(self.registry.start_attempt, self.key, attempt)

    def update_attempt(self, folder: AttemptFolder, attempt: Attempt) -> None:
        """Record what became known while it runs: the pids of agent and ranks."""
        self._write(folder.attempt, partial(attempt.write, folder))
        self.mirror.add(self.registry.update_attempt, self.key, attempt)

    def end_attempt(self, folder: AttemptFolder, attempt: Attempt) -> None:
        """Record how it ended."""
        try:
            self._write(folder.attempt, partial(attempt.write, folder))
        finally:
            self.mirror.add(self.registry.end_attempt, self.key, attempt)

    def note(self, kind: str, text: str) -> None:
        """Tell a sentence that changes nothing, in the log and among the run's events."""
        log(text)
        run_id, evaluation = self.key.run_id, self.key.evaluation
        self.mirror.add(self.registry.add_event, run_id, kind, text, evaluation=evaluation)

    def flush(self) -> bool:
        """Write what found the disk full; True if nothing is left (OrchestraError as `move`)."""
        for path in list(self._late):
            write = self._late.pop(path)
            try:
                write()
            except DiskFullError:
                self._late[path] = write
        return not self._late

    def _write(self, path: Path, write: Callable[[], None]) -> None:
        """The newest content of a document: now, or when the disk has room."""
        known = bool(self._late)
        self._late[path] = write
        if not self.flush() and not known:
            log(f"the disk of {path.parent} is full: {path.name} will be written later")
