"""What every tab beside the runs table is: told which runs are meant, asked once a second.

A pane reads nothing on the screen's thread: it asks `self.reader` and draws the answer. It shows
a sentence instead of an empty box: why there is nothing, and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual.screen import Screen
from textual.widget import Widget

from orchestra.wire.errors import OrchestraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.schedule.board import RunView
    from orchestra.tui.background import Background
    from orchestra.workspace import Workspace

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Focus:
    """Which runs are meant: the one under the cursor, and the pinned ones, in their order."""

    run: RunView | None
    pinned: tuple[RunView, ...] = ()

    @property
    def runs(self) -> tuple[RunView, ...]:
        """All of them, the one under the cursor first, each once."""
        first = () if self.run is None else (self.run,)
        ids = {view.id for view in first}
        return (*first, *(view for view in self.pinned if view.id not in ids))


def while_there(widget: Widget, answer: Callable[[Answer], None]) -> Callable[[Answer], None]:
    """The same, but nothing once the widget's screen was left: it has no children any more."""

    def answered(value: Answer) -> None:
        if widget.is_attached and widget.screen.display:
            answer(value)

    return answered


def in_sight(screen: Screen[Any]) -> bool:
    """It is in front, or shines through what is. Textual's `is_current` holds for the screen
    behind an opaque one as well."""
    stack = screen.app.screen_stack
    if screen not in stack:
        return False
    return all(above.styles.background.a < 1 for above in stack[stack.index(screen) + 1 :])


class Pane(Widget, can_focus=True):
    """One tab. `key` names it in settings and keys; `title` is what is on the tab."""

    key: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, workspace: Workspace, reader: Background) -> None:
        super().__init__(id=f"pane-{self.key}")
        self.workspace = workspace
        self.reader = reader

    def show(self, focus: Focus) -> None:
        """The runs meant have changed, or what is known of them; called only while visible."""
        raise NotImplementedError

    def tick(self) -> None:
        """A second has gone by; called only while visible."""

    def read(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        *,
        slot: str = "",
        failed: Callable[[OrchestraError], None] | None = None,
    ) -> None:
        """Ask the reader; the newest question of this pane's `slot` wins. What comes when the
        pane has gone is dropped."""
        self.reader.ask(
            f"{self.key}{slot} {id(self)}",  # the detail screen has panes with the same key
            work,
            while_there(self, done),
            while_there(self, failed or self.show_problem),
        )

    def show_problem(self, error: OrchestraError) -> None:
        """A question failed: the sentence of `error` is to be seen."""
        raise NotImplementedError
