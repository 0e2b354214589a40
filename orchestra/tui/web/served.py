"""The monitor behind one browser tab: `python -m orchestra.tui.web.served ROOT RUNS`, read-only.

Started by server.py alone. Dies with it, however that ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestra.wire import lifeline

if __name__ == "__main__":
    lifeline.die_with_parent()  # before the slow imports, in which the server may die

from orchestra.tui.app import Monitor
from orchestra.tui.failure import log_to_file
from orchestra.wire.folders import RunsFolder
from orchestra.workspace import Workspace


def main() -> None:
    """Until the browser leaves."""
    root, runs = map(Path, sys.argv[1:])
    log_to_file()  # stdout and stderr are the browser's
    Monitor(Workspace(root, RunsFolder(runs)), readonly=True).run()


if __name__ == "__main__":
    main()
