"""The checkpoints of the run: score, size, age, why each is kept; those set aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from textual.content import Content

from orchestra.formats import ago, number, size
from orchestra.tui.panes.run_pane import RunPane
from orchestra.tui.table import aligned, wrapped
from orchestra.tui.text import safe

_BEST = "best"
_BEST_SIGN = "★"


class CheckpointsPane(RunPane, can_focus=False):
    """Newest first. Nothing is verified here: `orchestra checkpoints RUN --verify` does."""

    key = "checkpoints"
    title = "checkpoints"
    every_s = 5.0
    tells_ages = True

    def look(self, run_id: str) -> dict[str, Any]:
        # It loads the config's schema, which the first frame shall not wait for.
        from orchestra.schedule.saved import saved

        return saved(self.workspace.runs.run(run_id), check=False)

    def draw(self, found: Mapping[str, Any]) -> None:
        rows = found["checkpoints"]
        if rows:
            metric = next((item["metric"] for item in rows if item["metric"]), None)
            header = ["", "step", metric or "score", "size", "saved", "kept as", "state"]
            lines = aligned(header, [_row(item) for item in rows], right=(1, 2, 3))
        else:
            text = f"no checkpoint yet: the first is saved after step {found['every']}"
            lines = wrapped(text, self.width)
        self.put([*lines, *self._set_aside(found)], pinned=1 if rows else 0)

    def _set_aside(self, found: Mapping[str, Any]) -> Iterable[Content]:
        if found["quarantined"]:
            yield from (Content(""), Content.styled("Quarantined: failed verification", "bold"))
            for item in found["quarantined"]:
                text = f"{item['path']}: {item['reason'] or 'no reason on record'}"
                yield from wrapped(text, self.width, "$text-error")
        if found["superseded"]:
            steps = ", ".join(str(item["step"]) for item in found["superseded"])
            title = "Superseded: resume --from went back behind them"
            yield from (Content(""), Content.styled(title, "bold"))
            yield from wrapped(f"steps {steps}", self.width)


def _row(item: Mapping[str, Any]) -> list[Content]:
    best = _BEST in item["kept_as"]
    style = "bold $text-success" if best else ""
    state = f"{item['state']}: {item['reason']}" if item["reason"] else item["state"]
    return [
        safe(_BEST_SIGN if best else " ", style),
        safe(str(item["step"]), style),
        safe(number(item["score"]), style),
        safe("-" if item["size_bytes"] is None else size(item["size_bytes"])),
        safe(ago(item["saved_at"])),
        safe(", ".join(item["kept_as"]) or "-"),
        safe(state, "$text-error" if item["state"] == "bad" else "dim"),
    ]
