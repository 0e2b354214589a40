"""What `orchestra ls` can show of a run, by the name of the column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestra.formats import ago, duration, number
from orchestra.wire.errors import UsageError
from orchestra.wire.states import ENDED

if TYPE_CHECKING:
    from orchestra.registry.rows import RunRow
    from orchestra.schedule.query_fields import Field

DEFAULT = ("id", "name", "state", "step", "loss", "best", "created", "reason")
RIGHT = ("step", "loss", "score", "best", "gpus", "attempt")
"""Columns of numbers."""

_CELLS: Mapping[str, Callable[[RunRow], str]] = {
    "id": lambda row: row.id,
    "name": lambda row: row.name,
    "state": lambda row: row.state.value,
    "task": lambda row: row.task,
    "upstream": lambda row: row.upstream,
    "step": lambda row: f"{row.step}/{row.max_steps}" if row.max_steps else str(row.step),
    "loss": lambda row: number(row.loss),
    "score": lambda row: _scored(row, row.score),
    "best": lambda row: _scored(row, row.best_score),
    "eta": lambda row: "-" if row.state in ENDED else duration(row.eta_s),
    "attempt": lambda row: str(row.attempt),
    "gpus": lambda row: number(row.gpus),
    "devices": lambda row: ", ".join(row.devices) or "-",
    "host": lambda row: row.host or "-",
    "branch": lambda row: row.git_branch or "-",
    "commit": lambda row: (row.git_commit or "-")[:12],
    "dirty": lambda row: {None: "-", True: "yes", False: "no"}[row.git_dirty],
    "tags": lambda row: ", ".join(row.tags) or "-",
    "note": lambda row: row.remark or "-",
    "parent": lambda row: row.parent or "-",
    "member": lambda row: row.member or "-",
    "created": lambda row: ago(row.created_at),
    "started": lambda row: ago(row.started_at),
    "ended": lambda row: ago(row.ended_at),
    "reason": lambda row: row.reason,
}


def columns(words: str | None) -> tuple[str, ...]:
    """The columns that `--columns a,b,c` names; of the usual ones without it.

    Raises:
        UsageError: there is no such column; the message names those that there are.
    """
    if words is None:
        return DEFAULT
    names = tuple(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    wrong = [name for name in names if name not in _CELLS and computed(name) is None]
    if wrong or not names:
        text = f"no column {wrong[0]!r}" if wrong else "names none"
        raise UsageError(
            f"--columns: {text}: columns are {', '.join(_CELLS)}, cfg.KEY (the config), "
            "eval.SPLIT.METRIC"
        )
    return names


def computed(name: str) -> Field | None:
    """The field behind a column that is no part of a row: of the config, or an evaluation's."""
    if name in _CELLS or "." not in name:
        return None
    from orchestra.schedule.query_fields import field_named

    return field_named(name)


def cells(
    row: RunRow, names: Sequence[str], note: str, values: Mapping[str, Any]
) -> dict[str, str]:
    """A line of the table. `note`: to be told before the reason; `values`: of computed columns."""
    line = {}
    for name in names:
        if name not in _CELLS:
            line[name] = _shown(values.get(name))
        elif name == "reason":
            line[name] = "; ".join(filter(None, (note, row.reason)))
        else:
            line[name] = _CELLS[name](row)
    return line


def _scored(row: RunRow, score: float | None) -> str:
    return "-" if score is None else f"{row.metric or ''} {number(score)}".strip()


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return number(value, 6) if isinstance(value, int | float) else str(value)
