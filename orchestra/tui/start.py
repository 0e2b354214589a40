"""`orchestra tui`, from the command line to the running monitor.

Textual takes longer to load than the registry to be read: the first rows are drawn before it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack

from orchestra.tui.first_paint import NOT_BEGUN, first_screen
from orchestra.tui.memory import load_layout
from orchestra.tui.watcher import FIRST_PAGE, Found, Wanted, Watcher
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.workspace import Workspace


def start_monitor(workspace: Workspace, *, readonly: bool) -> None:
    """Until the user leaves (UsageError where there is no terminal)."""
    terminal = sys.__stderr__  # what Textual draws on
    if terminal is None or not terminal.isatty() or not sys.stdin.isatty():
        raise UsageError(
            "the monitor needs a terminal on stdin and stderr: `orchestra ls` and `orchestra show` "
            "tell the same to a pipe, with --json to a program"
        )
    found = _first_rows(workspace)
    signal.signal(signal.SIGTERM, _end)  # until the monitor has its own
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
        undo.pop_all()  # Textual does it from now on
    monitor.run()
    sys.exit(monitor.return_code or ExitCode.OK)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def _first_rows(workspace: Workspace) -> Found | None:
    """None where there is a problem: the monitor tells it on the screen."""
    kept = load_layout(workspace)
    watcher = Watcher(workspace)
    try:
        return watcher.look(Wanted(kept.query, kept.sort, FIRST_PAGE))
    except OrchestraError:
        return None
    finally:
        watcher.close()
