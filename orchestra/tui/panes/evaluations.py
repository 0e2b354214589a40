"""The evaluations of the run, running ones too: split, checkpoint, metrics, time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from textual.content import Content

from orchestra.formats import ago, duration, number
from orchestra.registry.store import open_registry
from orchestra.schedule.describe import describe_evaluations
from orchestra.tui.looks import colour_of, doing_of, glyph_of
from orchestra.tui.panes.run_pane import RunPane
from orchestra.tui.table import aligned, wrapped
from orchestra.tui.text import safe
from orchestra.wire.states import RunState


class EvaluationsPane(RunPane, can_focus=False):
    """Newest first."""

    key = "evaluations"
    title = "evals"
    tells_ages = True

    def look(self, run_id: str) -> list[dict[str, Any]]:
        with open_registry(self.workspace.runs) as registry:
            return describe_evaluations(self.workspace, registry, run_id)

    def draw(self, found: Sequence[Mapping[str, Any]]) -> None:
        if not found:
            text = f"no evaluation yet: `orchestra eval {self.run_id} --split SPLIT`"
            self.put(wrapped(text, self.width, "dim"))
            return
        newest_first = list(reversed(found))
        metrics = list(dict.fromkeys(name for row in newest_first for name in _declared(row)))
        header = ["", "#", "split", "step", *metrics, "took", "state"]
        dark = self.app.current_theme.dark
        rows = [_row(row, metrics, dark) for row in newest_first]
        self.put(
            [*aligned(header, rows, right=(1, *range(3, 5 + len(metrics)))), *self._why(found)]
        )

    def _why(self, found: Sequence[Mapping[str, Any]]) -> Iterable[Content]:
        for row in reversed(found):
            if row["reason"]:
                yield from wrapped(f"{row['number']}: {row['reason']}", self.width)


def _declared(row: Mapping[str, Any]) -> list[str]:
    """The metrics that the task declares; all of an evaluation that names none."""
    own = [name for name in row["declared"] or () if name in row["metrics"]]
    return own or sorted(row["metrics"])


def _row(row: Mapping[str, Any], metrics: Sequence[str], dark: bool) -> list[Content]:
    doing = doing_of(RunState(row["state"]))
    style = colour_of(doing, dark=dark)
    return [
        safe(glyph_of(doing), style),
        safe(str(row["number"])),
        safe(row["split"], "bold"),
        safe(_checkpoint(row)),
        *(safe(number(row["metrics"].get(name)), "bold") for name in metrics),
        safe(_took(row)),
        safe(_state(row), style),
    ]


def _checkpoint(row: Mapping[str, Any]) -> str:
    """Its step; `best` or `last` until the ranks know which one that is."""
    step = row["checkpoint_step"]
    return str(row["checkpoint"]) if step is None else str(step)


def _took(row: Mapping[str, Any]) -> str:
    if row["started_at"] is None:
        return "-"
    return duration((row["ended_at"] or time.time()) - row["started_at"])


def _state(row: Mapping[str, Any]) -> str:
    return f"{row['state']} {ago(row['ended_at'])}" if row["ended_at"] else str(row["state"])
