"""What becomes of an error of the monitor's own: into the log file, and one sentence on the screen.

Textual would print a traceback with all local variables over the terminal.
"""

from __future__ import annotations

import logging
from pathlib import Path

from rich.text import Text

from orchestra.tui.memory import state_folder
from orchestra.wire.terminal import clean

_LOG_BYTES = 4 << 20


class MonitorError(Exception):
    """Stands for the error, which is its cause; drawn by Textual as it ends."""

    def __init__(self, error: BaseException, log: Path) -> None:
        super().__init__(str(error))
        self._log = log

    def __rich__(self) -> Text:
        """The sentence."""
        what = f"{type(self.__cause__).__name__}: {self}"
        return Text(
            clean(
                f"error: the monitor failed ({what}); runs go on; {self._log} has the traceback: "
                "please report it, and start `orchestra tui` again"
            )
        )


def told(error: Exception) -> MonitorError:
    """Put the traceback into the log; what to raise instead."""
    logging.getLogger("orchestra.tui").error("the monitor failed", exc_info=error)
    failure = MonitorError(error, log_path())
    failure.__cause__ = error
    return failure


def log_to_file() -> None:
    """Whatever libraries log or warn of: nothing may be written over the screen."""
    path = log_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".old.log"))
        handler: logging.Handler = logging.FileHandler(path, encoding="utf-8", errors="replace")
    except OSError:  # a full or foreign disk: the monitor is worth more than its log
        handler = logging.NullHandler()
    logging.basicConfig(
        handlers=[handler], format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True
    )
    logging.captureWarnings(capture=True)


def log_path() -> Path:
    """Of this user's monitors."""
    return state_folder() / "monitor.log"
