"""The progress of a followed job on stderr: one line redrawn on a terminal, else a line now and
then. Nothing at all when quiet."""

from __future__ import annotations

import shutil
import time
from typing import IO, TYPE_CHECKING

from orchestra.cli.output import is_terminal
from orchestra.formats import duration, number
from orchestra.wire.states import RunState
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from orchestra.schedule.watch import View

_LINE_EVERY_S = 10.0


class Progress:
    """What is shown of the views that come in."""

    def __init__(self, stream: IO[str], *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._redraw = is_terminal(stream)
        self._told = ("", "")
        self._shown = ""
        self._next_line = 0.0

    def show(self, view: View) -> None:
        """State changes always, numbers as they come."""
        if self._quiet:
            return
        told = (view.state.value, view.reason)
        if told != self._told:
            self._told = told
            self._print(f"{view.state.value}{f': {view.reason}' if view.reason else ''}")
        line = describe(view)
        if line == self._shown or view.state not in (RunState.RUNNING, RunState.STOPPING):
            return
        if self._redraw:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{clean(line)[:width]}")
            self._stream.flush()
            self._shown = line
        elif time.monotonic() >= self._next_line:
            self._print(line)
            self._shown = line
            self._next_line = time.monotonic() + _LINE_EVERY_S

    def finish(self, view: View) -> None:
        """Leave the last numbers standing."""
        if self._quiet:
            return
        if self._redraw and self._shown:
            self._stream.write("\n")
            self._stream.flush()
        elif describe(view) != self._shown:
            self._print(describe(view))

    def _print(self, text: str) -> None:
        start = "\r\x1b[K" if self._redraw and self._shown else ""
        self._stream.write(f"{start}{clean(text)}\n")
        self._stream.flush()


def describe(view: View) -> str:
    """Step, loss, throughput, time left, validation score."""
    row = view.run
    if view.evaluation is not None:
        return f"evaluating {view.evaluation.split} with checkpoint {view.evaluation.checkpoint}"
    parts = [f"step {row.step}/{row.max_steps or '?'}"]
    if row.loss is not None:
        parts.append(f"loss {number(row.loss)}")
    if row.audio_s_per_s is not None:
        parts.append(f"{number(row.audio_s_per_s, 3)} x real time")
    if row.eta_s is not None and not view.ended:
        parts.append(f"ETA {duration(row.eta_s)}")
    if row.score is not None:
        best = f" (best {number(row.best_score)})" if row.best_score is not None else ""
        parts.append(f"{row.metric or 'score'} {number(row.score)}{best}")
    return "  ".join(parts)
