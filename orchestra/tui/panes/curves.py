"""The curves of the run under the cursor and of the pinned ones, in one picture.

Nothing is read on the screen's thread: a question goes to the reader, and until the answer comes
the curves of before stay, dimmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Static

from orchestra.schedule.board import RunView
from orchestra.tui.colours import assign
from orchestra.tui.curve_source import CurveSource, Look, Question, Wanted, named
from orchestra.tui.finder import Finder
from orchestra.tui.keys import Key, bindings
from orchestra.tui.lines import MOST_LINES, Line, View, XAxis
from orchestra.tui.pane import Focus, Pane
from orchestra.tui.picture import Picture, Tile
from orchestra.tui.plot import extent_of
from orchestra.tui.text import safe_lines
from orchestra.tui.zoom import Zoom
from orchestra.wire.errors import OrchestraError
from orchestra.wire.terminal import clean

LOSS = "train/loss"
SMOOTHINGS = (0.0, 0.6, 0.9, 0.97)
KEYS = (
    Key(
        "down,j",
        "metric(1)",
        "next metric",
        "The next metric, alone; in the grid the next page.",
        "curves",
        show_as="j",
    ),
    Key("up,k", "metric(-1)", "previous", "The metric before, alone.", "curves", False),
    Key("slash", "find", "find metric", "Any metric, by a part of its name.", "curves"),
    Key("g", "grid", "grid", "Several metrics, or one.", "curves"),
    Key("y", "log_y", "log y", "Logarithmic y axis, or linear.", "curves"),
    Key("x", "axis", "x axis", "By step, epoch, time, or time since the start.", "curves"),
    Key("o", "smooth", "smooth", "Smooth more; after the most: not at all.", "curves"),
    Key("plus,equals_sign", "zoom(0.5)", "closer", "Half of it, wider.", "curves", show_as="+"),
    Key("minus", "zoom(2)", "wider", "Twice as much.", "curves", False),
    Key("left", "point(-1)", "crosshair", "The crosshair to the left.", "curves", False),
    Key("right", "point(1)", "crosshair", "The crosshair to the right.", "curves", False),
    Key("shift+left", "pan(-0.25)", "pan", "What is before.", "curves", False),
    Key("shift+right", "pan(0.25)", "pan", "What comes after.", "curves", False),
    Key("0", "reset", "reset", "All of the curves, as at first.", "curves"),
    Key("escape", "unpoint", "no crosshair", "Without the crosshair.", "curves", False),
)
_MOST_KEPT = 64  # lines of runs and metrics that were looked at


class _Layout(Enum):
    DEFAULT = auto()  # the loss, and the metric that chooses the best checkpoint
    ONE = auto()
    GRID = auto()


@dataclass(frozen=True)
class _Choice:
    """What the user asked to see."""

    layout: _Layout = _Layout.DEFAULT
    key: str = LOSS


class CurvesPane(Pane):
    """Up to eight runs; any of their metrics."""

    key: ClassVar[str] = "curves"
    title: ClassVar[str] = "curves"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = """
    CurvesPane { layout: vertical; }
    CurvesPane > #curves-problem { height: auto; max-height: 3; display: none; padding: 0 1; }
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._picture = Picture()
        self._problem = Static("", markup=False, id="curves-problem")
        self._said = ""
        self._finder = Finder()
        self._source = CurveSource()
        self._runs: tuple[RunView, ...] = ()
        self._colours: dict[str, int] = {}
        self._choice = _Choice()
        self._before_finding: _Choice | None = None
        self._view = View()
        self._zoom = Zoom()
        self._keys: tuple[str, ...] = ()
        self._lines: dict[tuple[str, str, XAxis], Line] = {}
        self._drawn: list[Tile] = []
        self._question: Question | None = None
        self._answered = False

    def compose(self) -> ComposeResult:
        yield self._picture
        yield self._problem
        yield self._finder

    def show(self, focus: Focus) -> None:
        runs = focus.runs[:MOST_LINES]
        before, self._runs = self._runs, runs
        if [run.id for run in runs] == [run.id for run in before]:
            if [run.row.name for run in runs] != [run.row.name for run in before]:
                self._draw()
        else:
            self._answered = False
            self._colours |= assign([run.id for run in runs], self._colours)
            self._ask()
            self._draw()

    def tick(self) -> None:
        if self._runs:
            self._ask()

    def show_problem(self, error: OrchestraError) -> None:
        self._complain(str(error))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc is the screen's while there is no crosshair."""
        return action != "unpoint" or self._view.crosshair is not None

    # reading

    def _ask(self) -> None:
        folder = self.workspace.runs
        wanted = tuple(
            Wanted(run.id, folder.run(run.id).metrics, run.row.started_at) for run in self._runs
        )
        question = Question(wanted, tuple(self._shown_keys()), self._view.axis, self._zoom.part)
        self._question = question
        self.read(lambda: self._source.look(question), self._take)

    def _take(self, look: Look) -> None:
        axis = look.question.axis
        changed = False
        for (run_id, key), line in look.lines.items():
            changed |= self._lines.get((run_id, key, axis)) is not line
            self._lines.pop((run_id, key, axis), None)
            self._lines[run_id, key, axis] = line
        while len(self._lines) > _MOST_KEPT:
            del self._lines[next(iter(self._lines))]
        if look.question != self._question:
            return  # asked for other runs meanwhile; this is kept for when they come back
        new_keys = look.keys != self._keys
        self._keys = look.keys
        if changed or new_keys or not self._answered:
            self._answered = True
            self._draw()
        names = {run.id: run.row.name for run in self._runs}
        self._complain("\n".join(f"{names[one]}: {text}" for one, text in look.problems.items()))
        if not look.exact or set(self._shown_keys()) - set(look.question.keys):
            self._ask()

    def on_unmount(self) -> None:
        self.read(self._source.close, _ignore, slot="-close", failed=_ignore)

    # what is shown

    def _ordered(self) -> list[str]:
        """All metrics: the two that matter first, then by name."""
        first = self._defaults()
        return [*first, *(key for key in self._keys if key not in first)]

    def _defaults(self) -> list[str]:
        metric = next((run.row.metric for run in self._runs if run.row.metric), None)
        ends = [
            key
            for key in self._keys
            if metric and key.startswith("validation/") and key.endswith(f"/{metric}")
        ]
        return ([LOSS] if LOSS in self._keys else list(self._keys[:1])) + ends[:1]

    def _shown_keys(self) -> list[str]:
        ordered = self._ordered()
        if not ordered:
            return [LOSS]
        at = ordered.index(self._choice.key) if self._choice.key in ordered else 0
        if self._choice.layout is _Layout.ONE:
            return [ordered[at]]
        room = self._picture.capacity()
        if self._choice.layout is _Layout.DEFAULT:
            return self._defaults()[: max(room, 1)]
        page = at // room * room
        return ordered[page : page + room]

    def _draw(self) -> None:
        tiles = [Tile(clean(key), self._lines_of(key)) for key in self._shown_keys()]
        if any(line.marks or line.superseded for tile in tiles for line in tile.lines):
            self._drawn = tiles
        elif self._runs and not self._answered and self._drawn:
            # The new run's are on their way.
            tiles = [_stale(tile) for tile in self._drawn]
        else:
            self._drawn = []
            self._picture.say(self._nothing())
            return
        self._zoom = self._zoom.within(extent_of([line for tile in tiles for line in tile.lines]))
        self._picture.put(tiles, self._zoom.on(self._view))

    def _lines_of(self, key: str) -> tuple[Line, ...]:
        found = []
        for run in self._runs:
            line = self._lines.get((run.id, key, self._view.axis))
            if line is not None:
                found.append(named(line, clean(run.row.name), self._colours[run.id]))
        return tuple(found)

    def _nothing(self) -> str:
        if not self._runs:
            return "No run is chosen: its curves appear here when there is one in the table."
        if not self._answered:
            return "Reading ..."
        if self._view.axis is XAxis.EPOCH and self._keys:
            return "No epochs are on record for this run: x shows another axis."
        names = ", ".join(run.row.name for run in self._runs)
        return f"No metrics yet of {names}: the first comes with the first step that is logged."

    def _complain(self, text: str) -> None:
        if text != self._said:  # an update lays the whole screen out anew
            self._said = text
            self._problem.display = bool(text)
            self._problem.update(safe_lines(text, "$text-error"))

    # keys

    def action_metric(self, by: int) -> None:
        ordered = self._ordered()
        if not ordered:
            return
        layout = self._choice.layout
        at = ordered.index(self._choice.key) if self._choice.key in ordered else 0
        if layout is _Layout.GRID:  # a page
            room = self._picture.capacity()
            at = at // room * room + by * room
            self._choose(_Choice(layout, ordered[at if 0 <= at < len(ordered) else 0]))
        else:
            at = (at + by) % len(ordered) if layout is _Layout.ONE else min(by, 0)
            self._choose(_Choice(_Layout.ONE, ordered[at]))

    def action_find(self) -> None:
        self._before_finding = self._choice
        self._finder.open(self._ordered())

    def action_grid(self) -> None:
        grid = self._choice.layout is not _Layout.GRID
        self._choose(replace(self._choice, layout=_Layout.GRID if grid else _Layout.ONE))

    def action_log_y(self) -> None:
        self._see(log_y=not self._view.log_y)

    def action_axis(self) -> None:
        axes = list(XAxis)
        axis = axes[(axes.index(self._view.axis) + 1) % len(axes)]
        self._zoom = Zoom()
        self._answered = False
        self._see(axis=axis, crosshair=None)
        self._ask()

    def action_smooth(self) -> None:
        place = SMOOTHINGS.index(self._view.smoothing) + 1
        self._see(smoothing=SMOOTHINGS[place % len(SMOOTHINGS)])

    def action_zoom(self, factor: float) -> None:
        self._move(self._zoom.by(factor, self._view.crosshair))

    def action_pan(self, share: float) -> None:
        self._move(self._zoom.panned(share))

    def action_point(self, by: int) -> None:
        low, high = self._zoom.shown
        step = (high - low) / max(self._picture.columns, 1)
        at = self._view.crosshair
        x = high if at is None else min(max(at + by * step, low), high)
        self._see(crosshair=x)

    def action_unpoint(self) -> None:
        self._see(crosshair=None)

    def action_reset(self) -> None:
        self._view = View(axis=self._view.axis)
        self._choice = _Choice()
        self._move(self._zoom.all())

    # mouse and finder

    def on_picture_pointed(self, event: Picture.Pointed) -> None:
        if event.x != self._view.crosshair:
            self._see(crosshair=event.x)

    def on_picture_scrolled(self, event: Picture.Scrolled) -> None:
        self._move(self._zoom.by(0.8 if event.closer else 1.25, event.x))

    def on_finder_previewed(self, event: Finder.Previewed) -> None:
        if event.name is not None:
            self._choose(_Choice(_Layout.ONE, event.name))

    def on_finder_closed(self, event: Finder.Closed) -> None:
        if not event.kept and self._before_finding is not None:
            self._choose(self._before_finding)
        self.focus()

    def on_resize(self) -> None:
        self._draw()
        if self._runs:
            self._ask()

    def _choose(self, choice: _Choice) -> None:
        self._choice = choice
        self._ask()
        self._draw()

    def _see(self, **changes: Any) -> None:
        self._view = replace(self._view, **changes)
        self._draw()

    def _move(self, zoom: Zoom) -> None:
        self._zoom = zoom
        self._draw()
        self._ask()  # finer buckets of what is now shown


def _stale(tile: Tile) -> Tile:
    return replace(tile, lines=tuple(replace(line, stale=True) for line in tile.lines))


def _ignore(answer: Sequence[str] | OrchestraError | None) -> None:
    """Nobody waits for it."""
