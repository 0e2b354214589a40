"""Which log of a run is looked at: of which attempt or evaluation, of which rank or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestra.registry.rows import JobKey
from orchestra.schedule.logs import SUPERVISOR, attempt_logs
from orchestra.supervise.jobs import job_of
from orchestra.wire.folders import RunsFolder

ALL = "all"
"""The ranks and the launcher as one."""


@dataclass(frozen=True)
class LogChoice:
    """`attempt` None: the newest; `log`: ALL, a rank's, the launcher's or the supervisor's."""

    key: JobKey
    attempt: int | None = None
    log: str = ALL


@dataclass(frozen=True)
class ChosenLogs:
    """What is on disk for a choice."""

    choice: LogChoice
    paths: Mapping[str, Path]
    names: tuple[str, ...]
    """That can be chosen: ALL, the ranks', the launcher's, the supervisor's."""
    attempt: int
    """0 before the first."""
    attempts: tuple[int, ...]

    def other_log(self, by: int) -> LogChoice:
        """The next one (or the one before: -1), around."""
        at = self.names.index(self.choice.log) if self.choice.log in self.names else 0
        return replace(self.choice, log=self.names[(at + by) % len(self.names)])

    def other_attempt(self, by: int) -> LogChoice:
        """The next one or the one before; the newest one is followed over restarts."""
        if not self.attempts:
            return self.choice
        at = self.attempts.index(self.attempt) + by
        at = max(0, min(at, len(self.attempts) - 1))
        newest = at == len(self.attempts) - 1
        return replace(self.choice, attempt=None if newest else self.attempts[at])

    @property
    def missing(self) -> str:
        """Why there is nothing to show, as a sentence; empty if there is."""
        if any(path.exists() for path in self.paths.values()):
            return ""
        if self.choice.log == SUPERVISOR:
            return "The supervisor has written nothing yet."
        if not self.attempts:
            return "Not started yet: its log begins with the first attempt."
        if self.choice.log == ALL or self.choice.log in self.names:
            return f"Nothing is written in attempt {self.attempt} yet."
        return f"{self.choice.log} has no log in attempt {self.attempt}: ] shows the next one."


def chosen_logs(runs: RunsFolder, choice: LogChoice) -> ChosenLogs:
    """Look at the disk."""
    job = job_of(runs, choice.key)
    folders = job.attempts()
    wanted = [folder for folder in folders if folder.number == choice.attempt] or folders[-1:]
    logs = attempt_logs(wanted[0]) if wanted else {}
    launcher_last = (*(name for name in logs if name.startswith("rank")), *list(logs)[:1])
    if choice.log == ALL:
        paths = logs
    elif choice.log == SUPERVISOR:
        paths = {SUPERVISOR: job.supervisor_log}
    else:
        paths = {choice.log: logs[choice.log]} if choice.log in logs else {}
    return ChosenLogs(
        choice,
        paths,
        (ALL, *launcher_last, SUPERVISOR),
        wanted[0].number if wanted else 0,
        tuple(folder.number for folder in folders),
    )
