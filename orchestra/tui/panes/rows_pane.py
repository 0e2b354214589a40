"""What every pane made of rows shares: the keys are theirs; a sentence may replace them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from textual.app import ComposeResult
from textual.content import Content

from orchestra.tui.pane import Pane
from orchestra.tui.table import Lines, wrapped
from orchestra.wire.errors import OrchestraError

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.workspace import Workspace

_USUAL_WIDTH = 76


class RowsPane(Pane, can_focus=False):
    """`redraw` is called again when the width changes."""

    follow: ClassVar[bool] = False
    """New rows come last, and are shown while the last one is in sight."""

    def __init__(self, workspace: Workspace, reader: Background) -> None:
        super().__init__(workspace, reader)
        self.lines = Lines(id=f"{self.key}-lines", follow=self.follow)
        self.redraw: Callable[[], None] = lambda: None

    def compose(self) -> ComposeResult:
        """The rows."""
        yield self.lines

    def focus(self, scroll_visible: bool = True) -> Self:
        """The rows have the keys."""
        self.lines.focus(scroll_visible)
        return self

    def show_problem(self, error: OrchestraError) -> None:
        self.say(str(error), "$text-error")

    def say(self, text: str, style: str = "") -> None:
        """A sentence in place of rows."""
        self.draw_by(lambda: self.put(wrapped(text, self.width, style)))

    def draw_by(self, draw: Callable[[], None]) -> None:
        """Now, and whenever the width changes."""
        self.redraw = draw
        draw()

    def put(
        self, lines: Sequence[Content], targets: Sequence[Any] = (), *, pinned: int = 0
    ) -> None:
        """Rows, as Lines.replace wants them."""
        if self.lines.is_running:  # else not yet there, or not any more
            self.lines.replace(lines, targets, pinned=pinned)

    @property
    def width(self) -> int:
        """Cells in a row that need no scrolling; also before there is a layout."""
        return self.lines.scrollable_content_region.width or _USUAL_WIDTH

    def on_resize(self) -> None:
        """What is wrapped is so anew."""
        self.redraw()
