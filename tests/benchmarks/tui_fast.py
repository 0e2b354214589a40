"""`python -m tests.benchmarks.tui_fast ROOT SPEED FILE`: the monitor, with a day in less than that.

What it does every so many seconds is done SPEED times as often; nothing else differs. Writes to
FILE, when it ends, how many seconds of its life it has gone through.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestra.tui.keys import monitor_modules
from orchestra.tui.main_screen import MainScreen
from orchestra.tui.panes.run_pane import RunPane
from orchestra.tui.start import start_monitor
from orchestra.workspace import find_workspace

_INTERVALS = ("EVERY_S", "UNSEEN_EVERY_S", "_POLL_S", "_LANES_EVERY_S")


def main() -> None:
    root, speed, told = Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    owners: list[object] = [*monitor_modules(), RunPane, *RunPane.__subclasses__()]
    for owner in owners:
        for name in (*_INTERVALS, "every_s"):
            if name in vars(owner):
                setattr(owner, name, getattr(owner, name) / speed)
    seconds = 0
    tick = MainScreen._tick

    def counted(screen: MainScreen) -> None:
        nonlocal seconds
        seconds += 1
        tick(screen)

    MainScreen._tick = counted  # type: ignore[method-assign]
    try:
        start_monitor(find_workspace(root), readonly=True)
    finally:
        told.write_text(str(seconds))


if __name__ == "__main__":
    main()
