"""The tabs and their order."""

from __future__ import annotations

from orchestra.tui.background import Background
from orchestra.tui.pane import Pane
from orchestra.tui.panes.checkpoints import CheckpointsPane
from orchestra.tui.panes.code import CodePane
from orchestra.tui.panes.config import ConfigPane
from orchestra.tui.panes.curves import CurvesPane
from orchestra.tui.panes.evaluations import EvaluationsPane
from orchestra.tui.panes.events import EventsPane
from orchestra.tui.panes.overview import OverviewPane
from orchestra.workspace import Workspace


def panes(workspace: Workspace, reader: Background, *, detail: bool) -> list[Pane]:
    """Beside the table, or (`detail`) of one run alone."""
    if detail:
        first: list[type[Pane]] = [OverviewPane, CurvesPane]
        last: list[type[Pane]] = [CodePane]
    else:
        first, last = [CurvesPane, OverviewPane], []
    of_run: list[type[Pane]] = [EventsPane, ConfigPane, CheckpointsPane, EvaluationsPane]
    return [kind(workspace, reader) for kind in (*first, *of_run, *last)]
