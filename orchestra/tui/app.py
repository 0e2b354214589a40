"""The monitor itself: threads, layout, screens. `start.py` loads it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.geometry import Size

from orchestra.schedule.board import RunView
from orchestra.tui.actions import Actions
from orchestra.tui.ascii_signs import AsciiSigns
from orchestra.tui.background import Background
from orchestra.tui.colourless import Colourless
from orchestra.tui.failure import told
from orchestra.tui.gpu_watch import GpuWatch
from orchestra.tui.keys import Key, bindings, collect, monitor_modules
from orchestra.tui.looks import wants_ascii, wants_light
from orchestra.tui.main_screen import MainScreen
from orchestra.tui.memory import load_layout, save_layout
from orchestra.tui.pane import Pane
from orchestra.tui.themes import DARK, LIGHT
from orchestra.tui.too_small import TooSmall, is_too_small
from orchestra.tui.watcher import Found, Watcher
from orchestra.wire.errors import OrchestraError
from orchestra.wire.terminal import clean_lines
from orchestra.workspace import Workspace

KEYS = (
    Key("question_mark", "help", "help", "All keys.", show_as="?"),
    Key("colon,ctrl+p", "palette", "palette", "Commands and runs by name.", show_as=":"),
    Key("q,ctrl+c", "quit", "quit", "Leave. Runs go on.", show_as="q"),
    Key("T", "theme", "theme", "Light or dark.", footer=False),
)

_PATIENCE_S = 30.0  # with what was confirmed, at the end


class Monitor(App[None]):
    """One workspace on the screen."""

    TITLE = "orchestra"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(
        self, workspace: Workspace, *, readonly: bool = False, first: Found | None = None
    ) -> None:
        """`first`: rows to begin with, if some were read already."""
        super().__init__()
        self.first = first
        self._is_drawn = False
        self._signal = 0
        self.all_done = True
        """After its end: whether all that was confirmed has been done."""
        self.workspace = workspace
        self.readonly = readonly
        self._signs = [AsciiSigns()] if wants_ascii() else []
        self.kept = load_layout(workspace)
        self.watcher = Watcher(workspace)
        self.board = Background("board", self._deliver)
        self.reader = Background("reader", self._deliver)
        self.logs = Background("logs", self._deliver)
        self.background_actions = Background("actions", self._deliver)
        self.background_starts = Background("starts", self._deliver)
        self.background_checks = Background("checks", self._deliver)  # of what is being typed
        self.actions = Actions(workspace, readonly=readonly, tell=self._tell_later)
        self.gpus = GpuWatch(workspace, self.board)
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        known = self.kept.theme in self.available_themes
        self.theme = self.kept.theme if known else (LIGHT.name if wants_light() else DARK.name)

    def get_default_screen(self) -> MainScreen:
        """The table of runs."""
        return MainScreen()

    def on_load(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C is a key as soon as it can be
            asyncio.get_running_loop().add_signal_handler(number, self._end, number)
        self.board.start()
        self.reader.start()
        self.logs.start()
        self.background_actions.start()
        self.background_starts.start()
        self.background_checks.start()

    def on_unmount(self) -> None:
        self.board.stop(last=self.watcher.close)
        self.gpus.close()
        self.reader.stop()
        self.logs.stop()
        self.background_checks.stop()
        quick = self.background_actions.stop(timeout_s=_PATIENCE_S)
        self.all_done = self.background_starts.stop(timeout_s=_PATIENCE_S) and quick

    def on_resize(self, event: events.Resize) -> None:
        if self._is_drawn:  # else the first screen would come on top
            self._judge_size(event.size)

    def _judge_size(self, size: Size) -> None:
        if is_too_small(size) and not isinstance(self.screen, TooSmall):
            self.push_screen(TooSmall())

    def get_line_filters(self) -> Sequence[LineFilter]:
        """With ours last; where no colour is wanted Textual's own would leave greys."""
        theirs = (Colourless(),) if self.no_color else super().get_line_filters()
        return [*theirs, *self._signs]

    def get_key_display(self, binding: Binding) -> str:
        """As Textual's; Enter by its name where the font has no sign for it."""
        shown = super().get_key_display(binding)
        return shown.replace("⏎", "Enter") if self._signs else shown

    def make_panes(self, *, detail: bool = False) -> list[Pane]:
        """New ones, for a screen; `detail`: of one run alone."""
        from orchestra.tui.panes.all import panes

        gpus = None if detail else self.gpus
        return panes(self.workspace, self.reader, self.logs, gpus, readonly=self.readonly)

    def action_help(self) -> None:
        """All keys, those of what has the focus first."""
        from orchestra.tui.help import HelpScreen

        keys = collect(monitor_modules())
        self.push_screen(HelpScreen(keys, readonly=self.readonly))

    def action_palette(self) -> None:
        from orchestra.tui.palette import palette

        self.push_screen(palette())

    def runs_like(self, query: str) -> Sequence[RunView]:
        """Of those in the table, for the palette."""
        word = query.lower()
        return [
            view
            for view in self._main.shown
            if word in view.row.name.lower() or word in view.id.lower()
        ]

    def go_to(self, run_id: str) -> None:
        """Put the cursor on that run, for the palette."""
        self._main.go_to(run_id)

    @property
    def _main(self) -> MainScreen:
        return next(screen for screen in self.screen_stack if isinstance(screen, MainScreen))

    def action_theme(self) -> None:
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name
        self.remember(theme=self.theme)

    def remember(self, **changes: Any) -> None:
        """Keep a part of the layout for the next time."""
        self.kept = replace(self.kept, **changes)
        layout, workspace = self.kept, self.workspace
        self.reader.ask(
            "layout", lambda: save_layout(workspace, layout), _nothing, self._tell, surely=True
        )

    def _end(self, number: int) -> None:
        """By a signal: what was confirmed is done, the terminal is as it was."""
        self._signal = number
        if self._is_drawn:
            self.exit(return_code=128 + number)

    def on_ready(self) -> None:
        """The first screen stands; Textual cannot end while it comes."""
        self._is_drawn = True
        self._judge_size(self.size)
        if self._signal:
            self._end(self._signal)

    def _handle_exception(self, error: Exception) -> None:
        """Textual's own would draw a traceback over the terminal."""
        super()._handle_exception(told(error))

    def _tell(self, error: OrchestraError) -> None:
        self.notify(clean_lines(str(error)), severity="warning", markup=False)

    def _tell_later(self, sentence: str) -> None:
        """From any thread."""
        self._deliver(lambda: self.notify(clean_lines(sentence), markup=False))

    def _deliver(self, answer: Callable[[], None]) -> None:
        """On the screen's thread; forgotten while the program ends."""
        if self.is_running:
            self.call_later(answer)  # unlike call_from_thread it does not wait for the screen


def _nothing(*_: object) -> None:
    return None
