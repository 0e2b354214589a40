"""What the log pane has read, and its questions: one at a time, each going on from the answer
before. Of what is asked meanwhile the newest jump waits, and the newest filter with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from orchestra.schedule import log_reel
from orchestra.schedule.log_choice import ChosenLogs, LogChoice, chosen_logs
from orchestra.schedule.log_file import Line
from orchestra.schedule.log_reel import Reel
from orchestra.schedule.log_view import LogView
from orchestra.tui.log_lines import measure
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunsFolder


@dataclass(frozen=True)
class Looked:
    """What the reader found."""

    chosen: ChosenLogs
    reel: Reel


@dataclass(frozen=True)
class Question:
    """A jump, or with `on` more of what is at hand; all that the reader needs is in it."""

    choice: LogChoice
    containing: str = ""
    """Only lines with that text."""
    jump: Callable[[LogView, str], Reel] | None = None
    on: Callable[[Reel, LogView], Reel] = lambda reel, view: replace(reel, view=view)
    end: bool = False
    """Its end is to be in sight."""
    show: Line | None = None

    def after(self, waiting: Question | None) -> Question:
        """What is left to ask, now that this is asked too."""
        if self.jump is None and waiting is not None and waiting.jump is not None:
            return replace(waiting, containing=self.containing)
        return self


class Ask(Protocol):
    """Puts a question to the reader's thread."""

    def __call__(
        self,
        work: Callable[[], Looked],
        done: Callable[[Looked], None],
        failed: Callable[[OrchestraError], None],
    ) -> None: ...


class Reading:
    """`looked`: the last answer; the pane forgets it when it turns to another run."""

    def __init__(
        self,
        runs: RunsFolder,
        ask: Ask,
        answered: Callable[[Question, Looked], None],
        failed: Callable[[OrchestraError], None],
    ) -> None:
        self._runs = runs
        self._ask = ask
        self._answered = answered
        self._failed = failed
        self._waiting: Question | None = None
        self.looked: Looked | None = None
        self.busy = False

    @property
    def reel(self) -> Reel | None:
        return self.looked.reel if self.looked else None

    def ask(self, question: Question) -> None:
        """Now, or after the answer that is awaited."""
        if self.busy:
            self._waiting = question.after(self._waiting)
            return
        self.busy = True
        runs, before = self._runs, self.looked

        def done(looked: Looked) -> None:
            self.busy = False
            self._answered(question, looked)
            self._ask_next()

        def failed(error: OrchestraError) -> None:
            self.busy = False
            self._failed(error)
            self._ask_next()

        self._ask(lambda: answer(runs, question, before), done, failed)

    def _ask_next(self) -> None:
        question, self._waiting = self._waiting, None
        if question is not None:
            self.ask(question)


def answer(runs: RunsFolder, question: Question, before: Looked | None) -> Looked:
    """In the reader's thread. The same reel as before if nothing has changed."""
    chosen = chosen_logs(runs, question.choice)
    view = LogView(chosen.paths)
    if question.jump is not None:
        reel = question.jump(view, question.containing)
    elif before is None or _of(before.chosen) != _of(chosen):
        reel = log_reel.last(view, question.containing)
    else:
        reel = question.on(before.reel, view)
        if reel.containing != question.containing:
            reel = reel.filtered(question.containing)
    measure(reel.said)
    return Looked(chosen, reel)


def _of(chosen: ChosenLogs) -> tuple[LogChoice, int]:
    return chosen.choice, chosen.attempt
