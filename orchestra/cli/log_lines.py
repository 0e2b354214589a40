"""How `orchestra logs` prints lines: for a terminal, as they were written, or as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from orchestra.cli.output import emit_raw, is_terminal, wants_colour
from orchestra.schedule.log_fold import fold, label
from orchestra.schedule.log_search import found_in
from orchestra.schedule.log_view import LogView, Window
from orchestra.schedule.logs import LogFile, log_files
from orchestra.wire.folders import Job
from orchestra.wire.terminal import collapse, coloured, plain

_LINES = 2000  # read at once, where several logs are printed as one


@dataclass(frozen=True)
class Wanted:
    """Whose lines, and how many of those that are there."""

    job: Job
    ranks: list[int] | None
    attempt: int | None
    tail: int | None

    def files(self) -> list[LogFile]:
        """Those of now (NotFoundError)."""
        return log_files(self.job, attempt=self.attempt, ranks=self.ranks)


class LinePrinter:
    """Lines on stdout. Those that lack `grep` are left out."""

    def __init__(self, *, grep: str | None, json: bool, raw: bool) -> None:
        self._grep = grep
        self._json = json
        self._raw = raw

    def files(self, files: Sequence[LogFile], *, prefixed: bool, to_the_end: bool) -> None:
        """What is new in each file."""
        width = max((len(file.name) for file in files), default=0)
        for file in files:
            if self._raw:
                self._bytes(file, to_the_end=to_the_end)
                continue
            prefix = f"{file.name:<{width}} | " if prefixed else ""
            for line in file.new_lines(to_the_end=to_the_end):
                if self._wanted(line):
                    self._line(line, prefix, [file.name], file.attempt)

    def window(self, window: Window, attempt: int) -> None:
        """Lines of several logs in one order, identical ones of ranks once."""
        for said in fold(window.lines):
            if self._wanted(said.line.text):
                self._line(said.line.text, f"[{label(said.logs)}] ", said.logs, attempt)

    def _line(self, line: str, prefix: str, logs: Sequence[str], attempt: int) -> None:
        if self._json:
            ranks = [int(name[4:]) for name in logs if name.startswith("rank")]
            document = {
                "attempt": attempt,
                "log": logs[0],
                "rank": ranks[0] if ranks else None,
                "ranks": ranks,
                "line": line,
            }
            emit_raw(json.dumps(document))
        elif not is_terminal(sys.stdout):
            emit_raw(prefix + line)  # a file gets what was written
        elif wants_colour(sys.stdout):
            emit_raw(prefix + repainted(collapse(line)))
        else:
            emit_raw(prefix + plain(collapse(line)))

    def _bytes(self, file: LogFile, *, to_the_end: bool) -> None:
        sys.stdout.flush()
        for line in file.new_bytes(to_the_end=to_the_end):
            if self._wanted(line.decode(errors="replace")):
                sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    def _wanted(self, line: str) -> bool:
        return self._grep is None or found_in(self._grep, plain(collapse(line)))


class Each:
    """Prints one log after the other."""

    def __init__(self, wanted: Wanted, printer: LinePrinter) -> None:
        self._wanted = wanted
        self._printer = printer
        self._known: dict[str, LogFile] = {}

    def read(self, files: Sequence[LogFile], *, to_the_end: bool) -> None:
        """What is new in files seen before and in these."""
        for file in files:
            if str(file.path) not in self._known:
                self._known[str(file.path)] = file
                if self._wanted.tail is not None:
                    file.skip_to_last(self._wanted.tail)
        prefixed = self._wanted.ranks is None or len(self._wanted.ranks) > 1
        self._printer.files(list(self._known.values()), prefixed=prefixed, to_the_end=to_the_end)


class Merged:
    """Prints the logs of an attempt in one order, then those of the next."""

    def __init__(self, wanted: Wanted, printer: LinePrinter) -> None:
        self._wanted = wanted
        self._printer = printer
        self._views: dict[int, LogView] = {}  # by attempt
        self._places: dict[int, dict[str, int]] = {}

    def read(self, files: Sequence[LogFile], *, to_the_end: bool) -> None:
        """What is new in attempts seen before and in that of these."""
        newest = files[0].attempt if files else max(self._views, default=0)
        if files:
            self._views[newest] = LogView({file.name: file.path for file in files})
        for attempt, view in self._views.items():
            ended = to_the_end or attempt != newest
            if attempt not in self._places and self._wanted.tail is not None:
                self._print(view.last(self._wanted.tail), attempt, ended=ended)
            place = self._places.get(attempt, {})
            while self._print(view.after(place, _LINES), attempt, ended=ended):
                place = self._places[attempt]

    def _print(self, window: Window, attempt: int, *, ended: bool) -> bool:
        """Whether there may be more. A line being written waits until it is whole."""
        shown = window if ended else window.whole()
        self._printer.window(shown, attempt)
        self._places[attempt] = shown.end
        return bool(shown.lines)


def repainted(line: str) -> str:
    """A line's own colours by escape sequences of ours."""
    return "".join(
        f"{style.sgr()}{text}\x1b[0m" if style.sgr() else text for text, style in coloured(line)
    )
