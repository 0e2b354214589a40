"""The columns of the runs table: what each shows, how wide, and which go first when room is short.

Pure: cells are made from a RunView and the clock alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from orchestra.formats import duration, number
from orchestra.schedule.board import Doing, RunView, lasted_s
from orchestra.tui.looks import glyph_of
from orchestra.wire.states import ENDED
from orchestra.wire.terminal import clean

#: A screen narrower than this shows the table or a pane, not both.
BOTH_FROM = 110
#: Columns and rows; on a smaller one there is a sentence instead.
LEAST_SIZE = (60, 12)
#: The table's share of a wider one.
TABLE_SHARE = 0.6
_NAME_GROWS_TO = 44
GAP = 1  # cells between columns
_STEP_CELLS = 11
MARKS = 2  # cells before them: marked, pinned


@dataclass(frozen=True)
class Setting:
    """What cells depend on besides the run."""

    now_s: float  # Unix time
    gpus: Mapping[str, int] | None = None  # index by UUID; None: not known (yet)


@dataclass(frozen=True)
class Column:
    """`sort`: the field of the filter language that it is ordered by; empty: it can't be."""

    key: str
    title: str
    width: int
    cell: Callable[[RunView, Setting], str]
    right: bool = False
    sort: str = ""
    rank: int = 0
    """The highest goes first when there is no room."""


def choose(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """Those that fit into a table so wide, and how wide each is; the name takes what is left."""
    width -= MARKS + GAP
    chosen = list(columns)
    while len(chosen) > 1 and _needed(chosen) > width:
        chosen.remove(max(chosen, key=lambda column: column.rank))
    spare = max(0, width - _needed(chosen))
    widths = []
    for column in chosen:
        room = column.width
        if column.key == "name":
            grown = min(_NAME_GROWS_TO, room + spare)
            spare -= grown - room
            room = grown
        elif column.key == "note":
            room += spare
        widths.append((column, room))
    return widths


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Cleaned, exactly so many cells wide; what is cut is marked."""
    text = clean(text)
    if not text.isascii():
        return _padded_wide(text, width, right=right)
    if len(text) > width:
        text = _cut(text, width)
    return text.rjust(width) if right else text.ljust(width)


def _cut(text: str, width: int) -> str:
    return text[: width - 1] + "…" if width > 1 else text[:width]


def _padded_wide(text: str, width: int, *, right: bool) -> str:
    """Some characters take two cells, some none."""
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def cells_of(
    view: RunView, chosen: Sequence[tuple[Column, int]], setting: Setting
) -> tuple[str, ...]:
    """The row's cells, each as wide as its column."""
    return tuple(
        padded(column.cell(view, setting), room, right=column.right) for column, room in chosen
    )


def titles_of(
    chosen: Sequence[tuple[Column, int]], sort: str, *, descending: bool
) -> tuple[str, ...]:
    """The head's cells; what the rows are ordered by is marked."""
    titles = []
    for column, room in chosen:
        title = column.title
        if sort and column.sort == sort:
            title = f"{title[: room - 1]}{'↓' if descending else '↑'}"
        titles.append(padded(title, room, right=column.right))
    return tuple(titles)


def _needed(columns: Collection[Column]) -> int:
    return sum(column.width + GAP for column in columns) - GAP


def _name(view: RunView, _: Setting) -> str:
    return view.row.name


def _task(view: RunView, _: Setting) -> str:
    return f"{view.row.task}/{view.row.upstream.rstrip('/').rpartition('/')[2]}"


def _bar(view: RunView, _: Setting) -> str:
    most = view.row.max_steps
    if not most:
        return ""
    share = min(1.0, view.step / most)
    cells = 5
    full = int(share * cells)
    return "━" * full + "╌" * (cells - full)


def _step(view: RunView, _: Setting) -> str:
    if not view.row.max_steps:
        return str(view.step)
    text = f"{view.step}/{view.row.max_steps}"
    return (
        text
        if len(text) <= _STEP_CELLS
        else f"{_thousands(view.step)}/{_thousands(view.row.max_steps)}"
    )


def _thousands(count: int) -> str:
    """`26.3k`, `1.2M`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _eta(view: RunView, _: Setting) -> str:
    return "" if view.row.state in ENDED or view.row.eta_s is None else duration(view.row.eta_s)


def _loss(view: RunView, _: Setting) -> str:
    return "" if view.row.loss is None else number(view.row.loss)


def _score(view: RunView, _: Setting) -> str:
    row = view.row
    if row.score is None:
        return ""
    best = "" if row.best_score is None else f" ({number(row.best_score, 3)})"
    return f"{number(row.score, 3)}{best}"


def _beat(view: RunView, _: Setting) -> str:
    return "" if view.silent_s is None else duration(view.silent_s)


def _gpus(view: RunView, setting: Setting) -> str:
    """Of a run that has them now."""
    if not view.is_live or not view.row.devices:
        return ""
    if setting.gpus is None:
        return f"{len(view.row.devices)} GPU{'s' if len(view.row.devices) > 1 else ''}"
    known = sorted(setting.gpus[uuid] for uuid in view.row.devices if uuid in setting.gpus)
    return _ranges(known) or "?"


def _ranges(indices: Sequence[int]) -> str:
    """`0-3,6`; of sorted numbers."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _took(view: RunView, setting: Setting) -> str:
    took_s = lasted_s(view.row, setting.now_s)
    return "" if took_s is None else duration(took_s)


def _age(view: RunView, setting: Setting) -> str:
    return duration(max(0.0, setting.now_s - view.row.created_at))


def _tags(view: RunView, _: Setting) -> str:
    return " ".join(view.tags)


def _note(view: RunView, _: Setting) -> str:
    return view.note or view.remark


def _attempt(view: RunView, _: Setting) -> str:
    return str(view.row.attempt) if view.row.attempt else ""


def _id(view: RunView, _: Setting) -> str:
    return view.row.id


def _state(view: RunView, _: Setting) -> str:
    return f"{glyph_of(view.doing)} {view.doing.value}"


#: In the order on the screen. `state` must stay: it is what people look for.
COLUMNS: tuple[Column, ...] = (
    Column("state", "State", 12, _state, sort="state", rank=0),
    Column("id", "Id", 8, _id, sort="id", rank=90),
    Column("name", "Name", 16, _name, sort="name", rank=1),
    Column("task", "Task", 11, _task, sort="task", rank=60),
    Column("bar", "Done", 5, _bar, sort="step", rank=70),
    Column("step", "Step", _STEP_CELLS, _step, right=True, sort="step", rank=2),
    Column("eta", "ETA", 6, _eta, right=True, rank=10),
    Column("loss", "Loss", 7, _loss, right=True, sort="loss", rank=40),
    Column("score", "Score (best)", 13, _score, right=True, sort="best", rank=20),
    Column("beat", "Beat", 5, _beat, right=True, rank=30),
    Column("gpus", "GPUs", 6, _gpus, rank=35),
    Column("attempt", "Att", 3, _attempt, right=True, sort="attempt", rank=50),
    Column("took", "Took", 6, _took, right=True, rank=45),
    Column("age", "Age", 6, _age, right=True, sort="created", rank=55),
    Column("tags", "Tags", 12, _tags, sort="tag", rank=75),
    Column("note", "Note", 20, _note, sort="reason", rank=80),
)
DEFAULT_COLUMNS = tuple(column.key for column in COLUMNS if column.key != "id")


def by_key(keys: Collection[str]) -> list[Column]:
    """The columns with these keys, in the order on the screen; the state always."""
    return [column for column in COLUMNS if column.key in keys or column.key == "state"]


def is_alarming(view: RunView) -> bool:
    """Whether somebody should look at it."""
    return view.doing in (Doing.STALLED, Doing.FAILED, Doing.ORPHANED)
