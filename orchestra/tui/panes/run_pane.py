"""What the panes that tell of one run in rows share: when to read, and what to show meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from textual.app import ComposeResult
from textual.content import Content

from orchestra.tui.pane import Focus, Pane
from orchestra.tui.table import Lines, wrapped
from orchestra.wire.errors import OrchestraError

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.workspace import Workspace

_NO_RUN = "no run is chosen: move to one in the table of runs"


class RunPane(Pane, can_focus=False):
    """A subclass says how to look (in the reader's thread) and how to draw what was found."""

    every_s: ClassVar[float] = 2.0
    """Between two looks at the same run."""
    follow: ClassVar[bool] = False
    """New rows come last, and are shown while the last one is in sight."""

    def __init__(self, workspace: Workspace, reader: Background) -> None:
        super().__init__(workspace, reader)
        self.run_id: str | None = None
        self._due = 0.0
        self._draw: Callable[[], None] = self._say_nothing

    def look(self, run_id: str) -> Any:
        """What there is to know (OrchestraError, OSError). In the reader's thread."""
        raise NotImplementedError

    def draw(self, found: Any) -> None:
        """Show it."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """The rows."""
        yield Lines(id=f"{self.key}-lines", follow=self.follow)

    @property
    def lines(self) -> Lines:
        return self.query_one(f"#{self.key}-lines", Lines)

    def focus(self, scroll_visible: bool = True) -> Self:
        """The rows have the keys."""
        self.lines.focus(scroll_visible)
        return self

    def show(self, focus: Focus) -> None:
        run_id = focus.run.id if focus.run else None
        if run_id != self.run_id:
            self.run_id, self._due = run_id, 0.0
            self._say_nothing() if run_id is None else self.say("reading ...", "dim")
        self.tick()

    def tick(self) -> None:
        now = time.monotonic()
        if self.run_id is None or now < self._due:
            return
        self._due = now + self.every_s
        run_id = self.run_id
        self.read(lambda: self._look(run_id), lambda found: self._take(run_id, found))

    def again(self) -> None:
        """Read without waiting for the next look's turn."""
        self._due = 0.0
        self.tick()

    def show_problem(self, error: OrchestraError) -> None:
        self.say(str(error), "$text-error")

    def say(self, text: str, style: str = "") -> None:
        """A sentence in place of rows."""
        self._draw = lambda: self.put(wrapped(text, self.width, style))
        self._draw()

    def put(self, lines: Sequence[Content], targets: Sequence[Any] = ()) -> None:
        """Rows, as Lines.replace wants them."""
        if self.is_mounted:
            self.lines.replace(lines, targets)

    @property
    def width(self) -> int:
        """Cells in a row that need no scrolling; also before there is a layout."""
        return (self.lines.scrollable_content_region.width if self.is_mounted else 0) or 76

    def on_resize(self) -> None:
        """What is wrapped is so anew."""
        self._draw()

    def _say_nothing(self) -> None:
        self.say(_NO_RUN, "dim")

    def _look(self, run_id: str) -> Any:
        try:
            return self.look(run_id)
        except OSError as error:
            raise OrchestraError(f"cannot read {error.filename}: {error.strerror}") from error

    def _take(self, run_id: str, found: Any) -> None:
        if run_id == self.run_id:  # else: another one has been chosen meanwhile
            self._draw = lambda: self.draw(found)
            self._draw()
