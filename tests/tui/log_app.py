"""`python -m tests.tui.log_app`: the log pane alone, of a workspace's only run."""

from __future__ import annotations

from textual.app import App, ComposeResult

from orchestra.tui.background import Background
from orchestra.tui.panes.log import LogPane
from orchestra.workspace import Workspace, find_workspace
from tests.tui.hostile import RUN


class OnePane(App[None]):
    """Nothing but the pane."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self.reader = Background("reader", self.call_from_thread)

    def compose(self) -> ComposeResult:
        yield LogPane(self._workspace, self.reader)

    def on_mount(self) -> None:
        self.reader.start()
        pane = self.query_one(LogPane)
        pane.focus()
        pane.open(RUN)

    def on_unmount(self) -> None:
        self.reader.stop()


if __name__ == "__main__":
    OnePane(find_workspace()).run()
