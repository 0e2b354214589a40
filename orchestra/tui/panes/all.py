"""The tabs and their order."""

from __future__ import annotations

from orchestra.tui.background import Background
from orchestra.tui.gpu_watch import GpuWatch
from orchestra.tui.pane import Pane
from orchestra.tui.panes.checkpoints import CheckpointsPane
from orchestra.tui.panes.code import CodePane
from orchestra.tui.panes.config import ConfigPane
from orchestra.tui.panes.curves import CurvesPane
from orchestra.tui.panes.evaluations import EvaluationsPane
from orchestra.tui.panes.events import EventsPane
from orchestra.tui.panes.gpus import GpusPane
from orchestra.tui.panes.log import LogPane
from orchestra.tui.panes.overview import OverviewPane
from orchestra.workspace import Workspace


def panes(
    workspace: Workspace,
    reader: Background,
    logs: Background,
    gpus: GpuWatch | None,
    *,
    readonly: bool,
) -> list[Pane]:
    """Beside the table; without `gpus`: of one run alone. `logs`: the thread that reads logs."""
    log = LogPane(workspace, logs, readonly=readonly)
    of_run: list[type[Pane]] = [EventsPane, ConfigPane, CheckpointsPane, EvaluationsPane]
    if gpus is None:
        return [
            OverviewPane(workspace, reader),
            CurvesPane(workspace, reader),
            log,
            *(kind(workspace, reader) for kind in of_run),
            CodePane(workspace, reader),
        ]
    return [
        CurvesPane(workspace, reader),
        log,
        OverviewPane(workspace, reader),
        *(kind(workspace, reader) for kind in of_run),
        GpusPane(workspace, reader, gpus),
    ]
