"""Two runs or more beside each other: what `orchestra diff` tells, on a screen of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static, TabbedContent, TabPane

from orchestra.formats import number
from orchestra.registry.store import open_registry
from orchestra.schedule.compare import Comparison, Row, Score, Side, compare, value_text
from orchestra.tui.colours import run_colour, run_letter
from orchestra.tui.key_line import KeyLine
from orchestra.tui.keys import Key, bindings
from orchestra.tui.pane import Focus
from orchestra.tui.panes.curves import CurvesPane
from orchestra.tui.table import Lines, aligned, wrapped
from orchestra.tui.text import join, safe, safe_lines

if TYPE_CHECKING:
    from orchestra.schedule.board import RunView
    from orchestra.schedule.code_changes import CodeChange, Commits
    from orchestra.tui.background import Background
    from orchestra.wire.errors import OrchestraError
    from orchestra.workspace import Workspace

_SLOT = "compare"
_WIDEST = 60
"""Cells of a value; whole ones tells `orchestra diff`."""
_BEST = "*"
_TABS = ("config", "code", "environment", "evaluations", "curves")

KEYS = (
    Key("escape", "back", "back", "Back to the runs.", "compare"),
    Key("p", "patch", "patch", "The whole difference of the code, or its summary.", "compare"),
    Key("f5", "again", "read again", "Look at the runs again.", "compare"),
    *(
        Key(str(place), f"tab('{name}')", name.title(), f"To {name}.", "compare", footer=False)
        for place, name in enumerate(_TABS, start=1)
    ),
)


class CompareScreen(Screen[None]):
    """The first run is what the others are compared with."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = """
    CompareScreen {
        #sides { height: auto; max-height: 6; padding: 0 1; background: $surface; }
        TabbedContent { height: 1fr; }
        TabPane { padding: 0 1; height: 1fr; }
        CurvesPane { height: 1fr; }
    }
    """

    def __init__(
        self, workspace: Workspace, reader: Background, views: tuple[RunView, ...]
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.reader = reader
        self.views = views
        self.whole_code = False

    def compose(self) -> ComposeResult:
        """What is not read yet says so."""
        yield Static(Content("reading ..."), id="sides")
        with TabbedContent(initial=_TABS[0]):
            for name in _TABS[:-1]:
                with TabPane(Content(name.title()), id=name):
                    yield Lines(id=f"{name}-lines")
            with TabPane(Content("Curves"), id="curves-tab"):
                yield CurvesPane(self.workspace, self.reader)
        yield KeyLine()

    def on_mount(self) -> None:
        """Read."""
        self.action_again()
        self.query_one("#config-lines").focus()
        self.set_interval(1.0, self._tick)

    def action_back(self) -> None:
        """To where it was opened from."""
        self.dismiss(None)

    def action_tab(self, name: str) -> None:
        """Show a section."""
        tab = "curves-tab" if name == "curves" else name
        self.query_one(TabbedContent).active = tab
        if name == "curves":
            self._curves.focus()
        else:
            self.query_one(f"#{name}-lines").focus()

    def on_tabbed_content_tab_activated(self) -> None:
        """The curves learn of their runs when they are seen."""
        if self._curves_shown:
            self._curves.show(Focus(self.views[0], self.views[1:]))

    def _tick(self) -> None:
        if self._curves_shown:
            self._curves.tick()

    @property
    def _curves(self) -> CurvesPane:
        return self.query_one(CurvesPane)

    @property
    def _curves_shown(self) -> bool:
        return self.is_current and self.query_one(TabbedContent).active == "curves-tab"

    def action_patch(self) -> None:
        """The whole code or its summary."""
        self.whole_code = not self.whole_code
        self.action_tab("code")
        self.action_again()

    def action_again(self) -> None:
        """Read everything."""
        workspace, whole = self.workspace, self.whole_code
        run_ids = tuple(view.id for view in self.views)

        def work() -> Comparison:
            with open_registry(workspace.runs) as registry:
                return compare(workspace, registry, run_ids, whole_code=whole)

        self.reader.ask(_SLOT, work, self._draw, self._show_problem)

    def _draw(self, found: Comparison) -> None:
        if not self.is_running:  # it was left meanwhile
            return
        width = max(20, self.size.width - 4)
        problems = [line for text in found.problems for line in wrapped(text, width, "$text-error")]
        sides = [side_line(place, side) for place, side in enumerate(found.runs)]
        self.query_one("#sides", Static).update(join(*sides, *problems, between="\n"))
        letters = [run_letter(place) for place in range(len(found.runs))]
        self._fill("config", _rows(found.config, letters), pinned=1)
        self._fill("code", _code(found, width))
        self._fill("environment", [*_rows(found.environment, letters), *_data(found, letters)])
        self._fill("evaluations", [*_scores(found.scores, letters), *_finals(found, letters)])

    def _fill(self, name: str, lines: Sequence[Content], *, pinned: int = 0) -> None:
        self.query_one(f"#{name}-lines", Lines).replace(lines, pinned=pinned)

    def _show_problem(self, error: OrchestraError) -> None:
        if self.is_running:
            self.query_one("#sides", Static).update(safe(str(error), "$text-error"))


def side_line(place: int, side: Side) -> Content:
    """`A  name  state  id`, the letter in its colour."""
    letter = Content.styled(run_letter(place), f"bold {run_colour(place)}")
    return join(
        letter, safe(side.name, "bold"), safe(side.state), safe(side.id, "dim"), between="  "
    )


def _rows(rows: Sequence[Row], letters: Sequence[str]) -> list[Content]:
    if not rows:
        return [Content("no difference")]
    cells = [[safe(row.key), *(_value(value) for value in row.values)] for row in rows]
    return aligned(["key", *letters], cells)


def _value(value: object) -> Content:
    if value is None:
        return Content.styled("absent", "dim")
    return safe(value_text(value)).truncate(_WIDEST, ellipsis=True)


def _data(found: Comparison, letters: Sequence[str]) -> list[Content]:
    return [Content(""), _title("Data"), *_rows(found.data, letters)]


def _title(text: str) -> Content:
    return Content.styled(text, "bold underline")


def _code(found: Comparison, width: int) -> list[Content]:
    lines: list[Content] = []
    first = found.runs[0]
    for place, (change, side) in enumerate(zip(found.code, found.runs[1:], strict=True), start=1):
        lines.append(join(_title("From A to "), _title(run_letter(place))))
        lines += _change(change, first, side, width)
        lines.append(Content(""))
    return lines


def _change(change: CodeChange, first: Side, other: Side, width: int) -> Iterable[Content]:
    if change.same:
        yield Content("the same code")
    yield from wrapped(change.problem, width, "$text-warning") if change.problem else ()
    yield from _commits(change.commits_added, other)
    yield from _commits(change.commits_removed, first)
    if change.patch is not None:
        yield from map(_patch_line, change.patch.splitlines())
        return
    for file in change.files:
        if file.added is None:
            yield join(safe(file.path), Content.styled("binary", "dim"), between="  ")
        else:
            counts = join(
                Content.styled(f"+{file.added}", "$text-success"),
                Content.styled(f"-{file.removed}", "$text-error"),
                between=" ",
            )
            yield join(safe(file.path), counts, between="  ")


def _commits(commits: Commits | None, side: Side) -> Iterable[Content]:
    if commits is None or not commits.count:
        return
    yield join(Content(f"{commits.count} commit(s) that only "), safe(side.name), Content(" has:"))
    for line in commits.newest:
        yield join(Content("  "), safe(line))
    if commits.count > len(commits.newest):
        yield Content("  ...")


def _patch_line(line: str) -> Content:
    styles = {"+": "$text-success", "-": "$text-error", "@": "$text-accent", "d": "bold"}
    return safe_lines(line, styles.get(line[:1], ""))


def _scores(scores: Sequence[Score], letters: Sequence[str]) -> list[Content]:
    if not scores:
        return [Content("no evaluation yet: `orchestra eval RUN --split SPLIT`")]
    rows = [
        [
            safe(score.split),
            safe(score.metric),
            *(_score(*cell) for cell in zip(score.values, score.best, strict=True)),
        ]
        for score in scores
    ]
    lines = aligned(["split", "metric", *letters], rows, right=range(2, 2 + len(letters)))
    return [*lines, Content.styled(f"{_BEST} the best of them", "dim")]


def _score(value: float | None, best: bool) -> Content:
    return Content.styled(number(value) + _BEST, "bold $text-success") if best else _plain(value)


def _plain(value: float | None) -> Content:
    return Content(f"{number(value)} ")


def _finals(found: Comparison, letters: Sequence[str]) -> list[Content]:
    if not found.finals:
        return []
    rows = [[safe(row.key), *map(_plain, row.values)] for row in found.finals]
    lines = aligned(["curve", *letters], rows, right=range(1, 1 + len(letters)))
    return [Content(""), _title("Last values of the curves"), *lines]
