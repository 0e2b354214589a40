"""`orchestra tui`, from the command line to the running monitor.

Textual takes longer to load than the registry to be read: the first rows are drawn before it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress

from orchestra.tui.first_paint import NOT_BEGUN, first_screen
from orchestra.tui.memory import load_layout
from orchestra.tui.watcher import FIRST_PAGE, Found, Wanted, Watcher
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.workspace import Workspace

FIRST_ROWS_WITHIN_S = 1.0


def start_monitor(workspace: Workspace, *, readonly: bool) -> None:
    """Until the user leaves (UsageError where there is no terminal)."""
    terminal = sys.__stderr__  # what Textual draws on
    if terminal is None or not terminal.isatty() or not sys.stdin.isatty():
        raise UsageError(
            "the monitor needs a terminal on stdin and stderr: `orchestra ls` and `orchestra show` "
            "tell the same to a pipe, with --json to a program"
        )
    found = _first_rows(workspace)
    for number in (signal.SIGINT, signal.SIGTERM):  # until the monitor has its own
        signal.signal(number, _end)
    with ExitStack() as undo:
        if found is not None and found.views:
            size = os.get_terminal_size(terminal.fileno())
            undo.callback(terminal.flush)
            undo.callback(terminal.write, NOT_BEGUN)
            terminal.write(first_screen(found, load_layout(workspace), size.columns, size.lines))
            terminal.flush()
        from orchestra.tui.app import Monitor
        from orchestra.tui.failure import log_to_file

        log_to_file()
        monitor = Monitor(workspace, readonly=readonly, first=found)
        monitor.run()
        undo.pop_all()  # Textual has done it
    if not monitor.all_done:
        raise OrchestraError(
            "what was confirmed last is not finished: `orchestra ls` tells how far it came"
        )
    sys.exit(monitor.return_code or ExitCode.OK)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def _first_rows(workspace: Workspace) -> Found | None:
    """None where there is a problem, or a lock to wait for: the monitor tells it on the screen."""
    kept = load_layout(workspace)
    rows: list[Found] = []

    def look() -> None:
        watcher = Watcher(workspace)
        with suppress(OrchestraError):
            rows.append(watcher.look(Wanted(kept.query, kept.sort, FIRST_PAGE)))
        watcher.close()

    looking = threading.Thread(target=look, name="first rows", daemon=True)
    looking.start()
    looking.join(FIRST_ROWS_WITHIN_S)
    return rows[0] if rows else None
