"""A screen whose runs can be acted on: a key, a look at what is at stake, a question, the deed.

What is looked at and what is quickly done happens in the thread of `background_actions`, the rest
in that of `background_starts`; what is typed is checked in that of `background_checks`. The screen
only asks and tells. Read-only refuses here at the key; the dialog and `Actions` refuse once more.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from textual import events
from textual.app import SuspendNotSupported
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen

from orchestra.schedule.board import RunView
from orchestra.schedule.spawn import own_environment
from orchestra.schedule.stake import Stake, at_stake, removal
from orchestra.tui.actions import (
    Action,
    Actions,
    Clone,
    Evaluate,
    Performed,
    Remove,
    Resume,
    Start,
)
from orchestra.tui.background import Background
from orchestra.tui.clipboard import copy
from orchestra.tui.keys import Key, bindings
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.files import read_json
from orchestra.wire.terminal import clean, clean_lines

if TYPE_CHECKING:
    from orchestra.workspace import Workspace

_RUNS = "runs"
KEYS = (
    Key("s", "stop", "stop", "Stop the run: with a last save, or now.", _RUNS, writes=True),
    Key("r", "resume", "resume", "Resume it, with other values if need be.", _RUNS, writes=True),
    Key("v", "evaluate", "eval", "Evaluate a checkpoint on a split.", _RUNS, writes=True),
    Key("n", "new_run", "new", "Start a new run.", _RUNS, writes=True),
    Key("C", "clone", "clone", "A new run with its config.", _RUNS, footer=False, writes=True),
    Key("L", "label", "label", "Its name, tags and note.", _RUNS, footer=False, writes=True),
    Key("D", "remove", "delete", "Delete it for good.", _RUNS, footer=False, writes=True),
    Key("R", "reap", "reap", "Kill what dead runs left behind.", _RUNS, footer=False, writes=True),
    Key("F", "folder", "folder", "A shell in its folder; exit comes back.", _RUNS, footer=False),
    Key("Y", "copy_origin", "copy", "Copy the command line that made it.", _RUNS, footer=False),
    Key("at", "commands", "commands", "What was done from here.", _RUNS, False, show_as="@"),
)
_WRITING = frozenset(key.action for key in KEYS if key.writes)
_LONG = (Start, Clone, Resume, Evaluate, Remove)
_WRITING_KEYS = frozenset(key.keys for key in KEYS if key.writes)
READ_ONLY = "read-only: use the command line"


class Desk(Protocol):
    """What the app has for this."""

    actions: Actions
    background_actions: Background
    background_starts: Background
    """For what may take long: it keeps no stop waiting."""
    background_checks: Background
    """For what is typed: a hub that does not answer keeps no stop waiting."""


class Begun(Message):
    """An action was confirmed; it may take a while."""

    def __init__(self, command: str) -> None:
        super().__init__()
        self.command = command


class Done(Message):
    """An action has ended, well or not: what is shown is old."""

    def __init__(self, performed: Performed) -> None:
        super().__init__()
        self.performed = performed


class Acting(Screen[None]):
    """Base of the screens that show runs."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def chosen(self) -> tuple[RunView, ...]:
        """The runs that an action is about: the marked ones, else the one under the cursor."""
        raise NotImplementedError

    @property
    def desk(self) -> Desk:
        """The app, as far as it matters here."""
        return cast("Desk", self.app)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that write are dim and dead where the monitor is read-only."""
        if action in _WRITING and self.desk.actions.readonly:
            return None
        return super().check_action(action, parameters)

    def on_key(self, event: events.Key) -> None:
        """A dead key says why."""
        if self.desk.actions.readonly and event.character in _WRITING_KEYS:
            self._say(READ_ONLY, wrong=True)

    def action_stop(self) -> None:
        """Ask, then stop."""

        def look() -> list[Stake]:
            stakes = self._stakes(self._ids())
            working = [stake for stake in stakes if stake.jobs]
            if stakes and not working:
                raise ConflictError(f"{_names(stakes)} ended already: there is nothing to stop")
            return working

        self._look("stop", look, self._ask_stop)

    def action_resume(self) -> None:
        """Ask from where and with what, then resume."""
        self._look("resume", self._look_at_chosen(), self._ask_resume)

    def action_evaluate(self) -> None:
        """Ask for split and checkpoint, then evaluate."""
        ids = self._ids()

        def look() -> tuple[list[Stake], list[str]]:
            from orchestra.schedule.evaluate import splits_of  # loads pydantic

            found = [splits_of(self._workspace.runs.run(run_id)) for run_id in ids]
            common = set(found[0]).intersection(*found[1:]) if found else set()
            return self._stakes(ids), sorted(common)

        self._look("evaluate", look, self._ask_evaluate)

    def action_label(self) -> None:
        """Ask for name, tags and note, then label."""
        views = self.chosen()
        self._look("label", self._look_at_chosen(), lambda stakes: self._ask_label(stakes, views))

    def action_clone(self) -> None:
        """Ask for changes, then start a clone of the first chosen run."""
        self._look("clone", self._look_at_chosen(most=1), self._ask_clone)

    def action_remove(self) -> None:
        """Ask, then delete."""
        ids = self._ids()

        def look() -> tuple[list[Stake], list[str]]:
            stakes = self._stakes(ids)
            if working := [stake for stake in stakes if stake.jobs]:
                raise ConflictError(f"at work, stop first: {', '.join(s.run_id for s in working)}")
            return stakes, [removal(stake) for stake in stakes]

        self._look("remove", look, self._ask_remove)

    def action_reap(self) -> None:
        """Show what dead runs left behind, then kill it."""
        from orchestra.schedule.reap import find
        from orchestra.tui.dialogs import ReapDialog

        self._look(
            "reap",
            find,
            lambda findings: self.ask(ReapDialog(self.desk.actions, findings)),
            of_runs=False,
        )

    def action_new_run(self) -> None:
        """The form of a new run."""
        from orchestra.tui.new_run import NewRunScreen

        if not self._refused():
            self.ask(NewRunScreen(self.desk.actions, self.desk.background_checks))

    def action_folder(self) -> None:
        """A shell in the run's folder; where none can be had, its path."""
        views = self.chosen()
        if not views:
            self._say("no run is chosen", wrong=True)
            return
        path = self._workspace.runs.run(views[0].id).path
        if self.desk.actions.readonly or self.app.is_web:
            self._say(f"{path}: {copy(self.app, str(path))}")
            return
        try:
            with self.app.suspend():
                print(f"{clean(str(path))}\nexit comes back to the monitor", flush=True)
                shell = os.environ.get("SHELL") or "/bin/sh"
                subprocess.run([shell], cwd=path, env=own_environment(), check=False)
        except SuspendNotSupported:
            self._say(f"{path}: {copy(self.app, str(path))}")
        except OSError as error:
            self._say(f"no shell in {path}: {error.strerror}", wrong=True)

    def action_copy_origin(self) -> None:
        """Copy the command line that made the run."""
        ids = self._ids()[:1]
        if ids:
            run = self._workspace.runs.run(ids[0])
            self._ask("origin", lambda: read_json(run.identity), self._copy_origin)

    def action_commands(self) -> None:
        """The command log."""
        from orchestra.tui.commands import CommandsScreen

        self.app.push_screen(CommandsScreen(tuple(self.desk.actions.log)))

    def perform(self, action: Action | None) -> None:
        """Do what was confirmed; nothing for None."""
        if action is None:
            return
        desk, actions = self.desk, self.desk.actions
        self.post_message(Begun(actions.command_of(action)))
        long = isinstance(action, _LONG)
        (desk.background_starts if long else desk.background_actions).ask(
            f"perform {id(action)}",  # alive while it waits: no other pushes it out of the queue
            lambda: actions.perform(action),
            lambda sentence: self._done(action, sentence),
            lambda error: self._done(action, str(error), failed=True),
            surely=True,
        )

    def ask(self, dialog: Screen[Action | None]) -> None:
        """Show a dialog, and do what it ends with."""
        self.app.push_screen(dialog, self.perform)

    @property
    def _workspace(self) -> Workspace:
        return self.desk.actions.workspace

    def _ids(self) -> list[str]:
        return [view.id for view in self.chosen()]

    def _stakes(self, ids: Sequence[str]) -> list[Stake]:
        return [at_stake(self._workspace, run_id) for run_id in ids]

    def _look_at_chosen(self, most: int | None = None) -> Callable[[], list[Stake]]:
        ids = self._ids()[:most]
        return lambda: self._stakes(ids)

    def _look(
        self,
        what: str,
        look: Callable[[], Any],
        then: Callable[[Any], None],
        *,
        of_runs: bool = True,
    ) -> None:
        """Look at what is at stake, then ask; unless it is refused, or there is nothing."""
        if self._refused():
            return
        if of_runs and not self.chosen():
            self._say("no run is chosen", wrong=True)
            return
        self._ask(f"look {what}", look, lambda found: self._if_current(then, found))

    def _if_current(self, then: Callable[[Any], None], found: Any) -> None:
        """No dialog comes up over another one that was opened meanwhile."""
        if self.is_active:
            then(found)

    def _ask(
        self,
        slot: str,
        work: Callable[[], Any],
        done: Callable[[Any], None],
    ) -> None:
        def tell(error: OrchestraError) -> None:
            self._say(str(error), wrong=True)

        self.desk.background_actions.ask(slot, work, done, tell)

    def _refused(self) -> bool:
        if self.desk.actions.readonly:
            self._say(READ_ONLY, wrong=True)
        return self.desk.actions.readonly

    def _say(self, text: str, *, wrong: bool = False) -> None:
        severity: Any = "error" if wrong else "information"
        # Content would be a better type; notify makes one of it, without reading markup.
        self.app.notify(clean_lines(text), severity=severity, markup=False)

    def _done(self, action: Action, sentence: str, *, failed: bool = False) -> None:
        performed = self.desk.actions.record(action, sentence, failed=failed)
        self._say(sentence, wrong=failed)
        self.post_message(Done(performed))

    def _copy_origin(self, identity: dict[str, Any]) -> None:
        words = identity.get("argv") or ("orchestra", "show", str(identity["id"]))
        line = shlex.join(map(str, words))
        self._say(f"{line}\n{copy(self.app, line)}")

    def _ask_stop(self, stakes: list[Stake]) -> None:
        from orchestra.tui.dialogs import StopDialog

        self.ask(StopDialog(self.desk.actions, stakes))

    def _ask_resume(self, stakes: list[Stake]) -> None:
        from orchestra.tui.dialogs import ResumeDialog

        desk, workspace = self.desk, self._workspace
        self.ask(
            ResumeDialog(
                desk.actions,
                stakes,
                desk.background_checks,
                lambda wanted: _outlook(workspace, wanted),
            )
        )

    def _ask_evaluate(self, found: tuple[list[Stake], list[str]]) -> None:
        from orchestra.tui.dialogs import EvaluateDialog

        self.ask(EvaluateDialog(self.desk.actions, *found))

    def _ask_label(self, stakes: list[Stake], views: Sequence[RunView]) -> None:
        from orchestra.tui.dialogs import LabelDialog

        tags = sorted(set(views[0].tags).intersection(*(view.tags for view in views[1:])))
        remark = views[0].remark if len(views) == 1 else ""
        self.ask(LabelDialog(self.desk.actions, stakes, tags, remark))

    def _ask_clone(self, stakes: list[Stake]) -> None:
        from orchestra.tui.dialogs import CloneDialog

        self.ask(CloneDialog(self.desk.actions, stakes[0]))

    def _ask_remove(self, found: tuple[list[Stake], list[str]]) -> None:
        from orchestra.tui.dialogs import RemoveDialog

        self.ask(RemoveDialog(self.desk.actions, *found))


def _outlook(workspace: Workspace, wanted: Resume) -> str:
    """What a resume would do (errors as there)."""
    from orchestra.schedule.resume import preview  # loads pydantic

    told = []
    for seen in wanted.runs:
        found = preview(workspace, seen.run_id, start_from=wanted.start_from, sets=wanted.sets)
        aside = ", ".join(map(str, found.aside))
        text = f"{seen.run_id}: goes on from step {found.step}"
        text += f"; checkpoints {aside} are moved aside" if aside else ""
        told.append(text + (f"; changes {', '.join(found.changed)}" if found.changed else ""))
    return "\n".join(told)


def _names(stakes: Sequence[Stake]) -> str:
    return f"{', '.join(stake.run_id for stake in stakes)} {'has' if len(stakes) == 1 else 'have'}"
