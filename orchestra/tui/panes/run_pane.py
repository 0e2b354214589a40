"""What the panes that tell of one run in rows share: when to read, and what to show meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from orchestra.tui.panes.rows_pane import RowsPane

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.tui.pane import Focus
    from orchestra.wire.errors import OrchestraError
    from orchestra.workspace import Workspace

_NO_RUN = "no run is chosen: move to one in the table of runs"


class RunPane(RowsPane, can_focus=False):
    """A subclass says how to look (in the reader's thread) and how to draw what was found."""

    every_s: ClassVar[float] = 2.0
    """Between two looks at the same run."""
    tells_ages: ClassVar[bool] = False
    """What was found is drawn again though it is the same."""

    def __init__(self, workspace: Workspace, reader: Background) -> None:
        super().__init__(workspace, reader)
        self.run_id: str | None = None
        self._due = 0.0
        self._drawn: Any = None
        self.redraw = self._say_nothing

    def look(self, run_id: str) -> Any:
        """What there is to know (OrchestraError, OSError). In the reader's thread."""
        raise NotImplementedError

    def draw(self, found: Any) -> None:
        """Show it."""
        raise NotImplementedError

    def show(self, focus: Focus) -> None:
        run_id = focus.run.id if focus.run else None
        if run_id != self.run_id:
            self.run_id, self._due = run_id, 0.0
            self._drawn = None
            self._say_nothing() if run_id is None else self.say("reading ...", "dim")
        self.tick()

    def tick(self) -> None:
        now = time.monotonic()
        if self.run_id is None or now < self._due:
            return
        self._due = now + self.every_s
        run_id = self.run_id
        self.read(lambda: self.look(run_id), lambda found: self._take(run_id, found))

    def again(self) -> None:
        """Read without waiting for the next look's turn."""
        self._due = 0.0
        self.tick()

    def show_problem(self, error: OrchestraError) -> None:
        self._drawn = None
        super().show_problem(error)

    def _say_nothing(self) -> None:
        self.say(_NO_RUN, "dim")

    def _take(self, run_id: str, found: Any) -> None:
        if run_id != self.run_id:
            return  # another one has been chosen meanwhile
        if self.tells_ages or self._drawn is None or found != self._drawn:
            self._drawn = found
            self.draw_by(lambda: self.draw(found))
