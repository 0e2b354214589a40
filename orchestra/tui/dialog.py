"""What every question before an action is: a body, the same as a command line, buttons.

A dialog ends with the action that was confirmed, or with None; it performs nothing. Cancel has
the focus and Escape cancels. What concerns several runs wants their number typed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Select, Static, TextArea

from orchestra.tui.actions import Action, Actions
from orchestra.tui.clipboard import copy
from orchestra.tui.fields import Field
from orchestra.tui.keys import Key, bindings
from orchestra.tui.text import join, safe, safe_lines

KEYS = (
    Key("escape", "cancel", "cancel", "Close the dialog; nothing is done.", where="dialogs"),
    Key(
        "ctrl+y",
        "copy_command",
        "copy command",
        "Copy the command line that does the same.",
        where="dialogs",
    ),
    Key("pageup", "scroll_body(-1)", "", "Scroll back what is told.", "dialogs", footer=False),
    Key("pagedown", "scroll_body(1)", "", "Scroll on in what is told.", "dialogs", footer=False),
)


_OTHER_ROWS = 15  # of a dialog, around its body
_LEAST_ROWS = 4


@dataclass(frozen=True)
class Choice:
    """A button that confirms. `action` is what it would do now; None: not as it stands."""

    key: str
    label: str
    action: Callable[[], Action | None]
    danger: bool = False


class Dialog(ModalScreen[Action | None]):
    """A question: `heading`, what `body` shows, the command lines, Cancel and the `choices`.

    `count`: of what it concerns, to be typed if it is more than one, or always.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical {
        width: 78; max-width: 96%; height: auto; max-height: 96%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    Dialog #title { text-style: bold; }
    Dialog #body { height: auto; margin-top: 1; }
    Dialog #body Label { color: $text-muted; }
    Dialog #body Input, Dialog #body Select { margin-bottom: 0; }
    Dialog TextArea { height: 5; }
    Dialog #verdict { height: auto; max-height: 4; }
    Dialog #command { height: auto; max-height: 4; color: $text-muted; margin-top: 1; }
    Dialog #count { width: 100%; }
    Dialog #buttons { height: auto; align-horizontal: right; margin-top: 1; }
    Dialog #buttons Button { margin-left: 2; min-width: 12; height: 1; }
    """

    def __init__(self, actions: Actions, *, count: int = 1, always_typed: bool = False) -> None:
        super().__init__()
        self.actions = actions
        self._count = count
        self._typed = always_typed or count > 1

    def body(self) -> ComposeResult:
        """The widgets between title and command."""
        raise NotImplementedError

    def choices(self) -> Sequence[Choice]:
        """What can be confirmed."""
        raise NotImplementedError

    def heading(self) -> Content:
        """The first line."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self.heading(), id="title")
            with VerticalScroll(id="body", can_focus=False):
                yield from self.body()
            yield Static(id="verdict")
            yield Static(id="command")
            if self._typed and self.choices():
                hint = f"type {self._count} to confirm"
                yield Field(placeholder=hint, id="count")
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel", variant="primary", compact=True)
                for choice in self.choices():
                    yield _button(choice)

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()
        self.refresh_choices()

    def on_resize(self, event: events.Resize) -> None:
        """The buttons stay in sight, however long the body is."""
        most = max(_LEAST_ROWS, event.size.height - _OTHER_ROWS)
        self.query_one("#body").styles.max_height = most

    def refresh_choices(self) -> None:
        """The command lines as the fields are now; buttons that can't be pressed are dim."""
        commands = []
        for choice in self.choices():
            action = choice.action()
            self.query_one(f"#{choice.key}", Button).disabled = not self._may(action)
            if action is not None:
                commands.append(safe(f"$ {self.actions.command_of(action)}"))
        self.query_one("#command", Static).update(join(*commands, between="\n"))
        if self.actions.readonly:
            self.tell("read-only: nothing can be done from here", wrong=True)

    def tell(self, text: str, *, wrong: bool = False) -> None:
        """A word on what is in the fields."""
        style = "$text-error" if wrong else "$text-success"
        shown = safe_lines(f"{'✗' if wrong else '✓'} {text}", style) if text else Content("")
        self.query_one("#verdict", Static).update(shown)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "count":
            self.refresh_choices()
        else:
            self.changed()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.focus_next()

    def on_select_changed(self, event: Select.Changed) -> None:
        self.changed()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        self.changed()

    def changed(self) -> None:
        """A field has another value."""
        self.refresh_choices()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        chosen = next((item for item in self.choices() if item.key == event.button.id), None)
        action = None if chosen is None else chosen.action()
        if chosen is None:
            self.dismiss(None)
        elif self._may(action):
            self.dismiss(action)

    def action_cancel(self) -> None:
        """Close without an action."""
        self.dismiss(None)

    def action_scroll_body(self, pages: int) -> None:
        """By pages; the focus stays where it is."""
        body = self.query_one("#body")
        body.scroll_relative(y=pages * max(1, body.size.height - 1), animate=False)

    def action_copy_command(self) -> None:
        """Hand the first command line to whoever shows this dialog."""
        action = next((found for item in self.choices() if (found := item.action())), None)
        if action is not None:
            told = copy(self.app, self.actions.command_of(action))
            self.notify(told, markup=False)

    def _may(self, action: Action | None) -> bool:
        """Whether it can be confirmed: not read-only, fields in order, the number typed."""
        if action is None or self.actions.readonly:
            return False
        return not self._typed or self.query_one("#count", Input).value == str(self._count)


def _button(choice: Choice) -> Button:
    variant: Literal["error", "success"] = "error" if choice.danger else "success"
    return Button(choice.label, id=choice.key, variant=variant, compact=True)
