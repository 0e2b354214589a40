"""The form of a new run: checked while it is typed, its plan and its command line in sight.

Ends with the Start that was confirmed, or with None. A run can be started when its plan, the very
one of `orchestra run --dry-run`, is made of what the fields say now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Input, Label, Select, Static, TextArea

from orchestra.schedule.submission import Submission
from orchestra.tui.actions import Action, Actions, Start
from orchestra.tui.background import Background
from orchestra.tui.clipboard import copy
from orchestra.tui.dialogs import lines_of
from orchestra.tui.fields import Field, TextField
from orchestra.tui.keys import Key, bindings
from orchestra.tui.new_run_form import CPU, GPU, PRESET, Form, submission
from orchestra.tui.text import join, safe, safe_lines
from orchestra.wire.errors import OrchestraError
from orchestra.workspace import Workspace

KEYS = (
    Key("escape", "cancel", "cancel", "Leave the form; nothing is started.", "new run"),
    Key(
        "ctrl+s", "start", "start", "Start the run, once its plan is made.", "new run", writes=True
    ),
    Key("ctrl+y", "copy_command", "copy command", "Copy the command line.", "new run"),
)
_DEBOUNCE_S = 0.3
_WIDE = 110  # columns from which the plan stands beside the form
_TASK_CELLS = 44
_WHERE = "$text-muted"


@dataclass(frozen=True)
class Known:
    """What there is to choose from."""

    tasks: tuple[tuple[str, str], ...]
    """Names with a line on each."""
    upstreams: tuple[str, ...]
    presets: tuple[str, ...]


def known(workspace: Workspace) -> Known:
    """As `orchestra tasks`, `upstreams` and `presets` list them (UsageError)."""
    from orchestra.config.presets import list_presets
    from orchestra.config.upstream_names import own_upstreams
    from orchestra.config.upstream_table import UPSTREAMS
    from orchestra.tasks import discover

    tasks = sorted(discover(workspace.root).values(), key=lambda task: task.name)
    return Known(
        tuple((task.name, task.summary()) for task in tasks),
        (*own_upstreams(workspace.root), *UPSTREAMS),
        tuple(preset.name for preset in list_presets(workspace.root)),
    )


class NewRunScreen(Screen[Action | None]):
    """`form`: what is in the fields at first."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = """
    NewRunScreen { background: $surface; }
    NewRunScreen #title { text-style: bold; padding: 0 1; background: $primary 30%; }
    NewRunScreen #halves { height: 1fr; layout: vertical; }
    NewRunScreen.-wide #halves { layout: horizontal; }
    NewRunScreen #form { height: 14; padding: 0 1; }
    NewRunScreen #outlook { height: 1fr; padding: 0 1; border-top: solid $primary; }
    NewRunScreen.-wide #form { height: 100%; width: 1fr; }
    NewRunScreen.-wide #outlook {
        height: 100%; width: 1fr; border-top: none; border-left: solid $primary;
    }
    NewRunScreen .row { height: auto; }
    NewRunScreen .row Label { width: 11; color: $text-muted; }
    NewRunScreen .row Input, NewRunScreen .row Select { width: 1fr; }
    NewRunScreen #ranks, NewRunScreen #priority { max-width: 16; }
    NewRunScreen .hint {
        color: $text-muted; margin-left: 13; height: 1;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    NewRunScreen.-wide .hint { height: auto; text-wrap: wrap; }
    NewRunScreen TextArea { height: 4; width: 1fr; }
    NewRunScreen #command { padding: 0 1; height: auto; max-height: 4; color: $text-muted; }
    NewRunScreen #buttons { height: 1; align-horizontal: right; padding-right: 1; }
    NewRunScreen #buttons Button { margin-left: 2; min-width: 12; height: 1; }
    """

    def __init__(self, actions: Actions, background: Background, form: Form | None = None) -> None:
        super().__init__()
        self._actions = actions
        self._background = background
        self._first = form or Form()
        self._planned: Form | None = None  # the form of which the plan is shown

    def compose(self) -> ComposeResult:
        first = self._first
        yield Static("New run", id="title")
        with Vertical(id="halves"):
            with VerticalScroll(id="form", can_focus=False):
                with Horizontal(classes="row"):
                    yield Label("task")
                    yield Select[str]([], prompt="looking for tasks", id="task", compact=True)
                upstream = Field(first.upstream, id="upstream", placeholder="as the presets say")
                yield from _row("upstream", upstream)
                yield Static(id="upstreams", classes="hint")
                yield from _row("presets", Field(first.presets, id="presets"))
                yield Static(id="known-presets", classes="hint")
                devices = [("as the presets say", PRESET), ("CPU", CPU), ("GPUs", GPU)]
                with Horizontal(classes="row"):
                    yield Label("device")
                    options = [(safe(text), value) for text, value in devices]
                    yield Select(
                        options, value=first.device, allow_blank=False, id="device", compact=True
                    )
                yield from _row("GPUs/ranks", Field(first.ranks, id="ranks", placeholder="1"))
                sets = TextField(
                    "\n".join(first.sets), id="sets", placeholder="KEY=VALUE, one per line"
                )
                yield from _row("overrides", sets)
                yield from _row("name", Field(first.name, id="name"))
                priority = Field(first.priority, id="priority", placeholder="0")
                yield from _row("priority", priority)
            with VerticalScroll(id="outlook"):
                yield Static(id="verdict")
                yield Static(id="plan")
        yield Static(id="command")
        with Horizontal(id="buttons"):
            yield Button("Cancel", id="cancel", variant="primary", compact=True)
            yield Button("Start", id="start", variant="success", compact=True, disabled=True)

    def on_mount(self) -> None:
        workspace = self._actions.workspace
        self._background.ask("known", lambda: known(workspace), self._offer, self._complain)
        self.query_one("#task").focus()
        self._changed()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= _WIDE, "-wide")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Start is dim until it may be."""
        if action == "start" and not self._may:
            return None
        return super().check_action(action, parameters)

    @property
    def form(self) -> Form:
        """What the fields say."""
        task = self.query_one("#task", Select).value
        return Form(
            task=task if isinstance(task, str) else "",
            upstream=self._typed("upstream"),
            presets=self._typed("presets"),
            device=str(self.query_one("#device", Select).value),
            ranks=self._typed("ranks"),
            sets=lines_of(self.query_one("#sets", TextArea).text),
            name=self._typed("name"),
            priority=self._typed("priority"),
        )

    def on_input_changed(self, event: Input.Changed) -> None:
        self._changed()

    def on_select_changed(self, event: Select.Changed) -> None:
        self._changed()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        self._changed()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.focus_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "start":
            self.action_start()
        else:
            self.dismiss(None)

    def action_cancel(self) -> None:
        """Leave without a run."""
        self.dismiss(None)

    def action_start(self) -> None:
        """End with what the fields say."""
        if self._may:
            self.dismiss(Start(submission(self.form, self._actions.program)))

    def action_copy_command(self) -> None:
        """The command line, for a shell or a script."""
        told = copy(self.app, self.form.command(self._actions.program))
        self.app.notify(told, markup=False)

    @property
    def _may(self) -> bool:
        return self._planned is not None and not self._actions.readonly

    def _typed(self, field: str) -> str:
        return self.query_one(f"#{field}", Input).value

    def _offer(self, found: Known) -> None:
        if not self.is_attached:
            return
        tasks = self.query_one("#task", Select)
        options = [
            (
                join(safe(name, "bold"), safe(f"  {summary}", _WHERE)).truncate(
                    _TASK_CELLS, ellipsis=True
                ),
                name,
            )
            for name, summary in found.tasks
        ]
        tasks.prompt = "choose a task"
        tasks.set_options(options)
        if self._first.task in dict(found.tasks):
            tasks.value = self._first.task
        for field, hint, names in (
            ("upstream", "upstreams", found.upstreams),
            ("presets", "known-presets", found.presets),
        ):
            self.query_one(f"#{field}", Field).suggest(names)
            self.query_one(f"#{hint}", Static).update(safe(", ".join(names)))

    def _changed(self) -> None:
        """Look at the fields when they have been still for a moment."""
        form = self.form
        if form == self._planned:
            return
        self._planned = None
        self._show_may()
        self.query_one("#command", Static).update(
            safe(f"$ {form.command(self._actions.program)}" if form.task else "")
        )
        self.set_timer(_DEBOUNCE_S, lambda: self._check(form))

    def _check(self, form: Form) -> None:
        """First the config alone, which is quick; then the whole plan."""
        if not self.is_attached or form != self.form or not form.task:
            return
        try:
            asked = submission(form, self._actions.program)
        except OrchestraError as error:
            self._complain(error)
            return
        workspace = self._actions.workspace
        self._background.ask(
            "check",
            lambda: _compose(workspace, asked),
            lambda _: self._plan(form, asked),
            lambda error: self._if_now(form, lambda: self._complain(error)),
        )

    def _plan(self, form: Form, asked: Submission) -> None:
        if not self.is_attached or form != self.form:
            return
        self._tell(safe("… the config is in order; looking at data, disk and GPUs", _WHERE))
        workspace = self._actions.workspace
        self._background.ask(
            "plan",
            lambda: _rows(workspace, asked),
            lambda rows: self._if_now(form, lambda: self._accept(form, rows)),
            lambda error: self._if_now(form, lambda: self._complain(error)),
        )

    def _if_now(self, form: Form, act: Callable[[], None]) -> None:
        """Answers to what the fields said before are of no use."""
        if self.is_attached and form == self.form:
            act()

    def _accept(self, form: Form, rows: Sequence[tuple[str, str]]) -> None:
        self._planned = form
        told = "read-only: it can't be started from here" if self._actions.readonly else "ready"
        self._tell(safe(f"✓ {told}", "$text-success"))
        width = max(len(what) for what, _ in rows)
        lines = [join(safe(what.ljust(width + 2), _WHERE), safe(text)) for what, text in rows]
        self.query_one("#plan", Static).update(join(*lines, between="\n"))
        self._show_may()

    def _complain(self, error: OrchestraError) -> None:
        if self.is_attached:
            self._tell(safe_lines(f"✗ {error}", "$text-error"))
            self.query_one("#plan", Static).update("")

    def _tell(self, text: Content) -> None:
        self.query_one("#verdict", Static).update(text)

    def _show_may(self) -> None:
        self.query_one("#start", Button).disabled = not self._may
        self.refresh_bindings()


def _row(label: str, field: Input | TextArea) -> ComposeResult:
    with Horizontal(classes="row"):
        yield Label(label)
        yield field


def _compose(workspace: Workspace, asked: Submission) -> None:
    """ConfigErrors, NotFoundError, UsageError: all that is wrong with the values."""
    from orchestra.config.compose import compose
    from orchestra.schedule.names import check_name

    if asked.name is not None:
        check_name(asked.name)
    compose(asked.request(workspace.root))


def _rows(workspace: Workspace, asked: Submission) -> list[tuple[str, str]]:
    from orchestra.schedule.submit import plan, plan_rows

    return plan_rows(plan(workspace, asked))
