"""A process that tells what its arguments say, as a supervisor would; complaints go to stdout.

notifying.py FOLDER SECONDS COMMAND EVENT...
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from orchestra.supervise.notify import Notifier
from orchestra.supervise.reaper import Reaper
from orchestra.wire.folders import Job

folder, longest_s, command, *events = sys.argv[1:]
notifier = Notifier(
    Job("train", Path(folder)), Reaper(), shlex.split(command), print, longest_s=float(longest_s)
)
for event in events:
    notifier.tell(event, {"state": event, "reason": "a \x1b[31m reason\n"})  # type: ignore[arg-type]
notifier.finish()
