"""What torchrun starts in a rank's place: `-m orchestra.train.forked`, with a rank's arguments.

Asks the warm launcher for the rank, stays as long as it lives, and ends as it ended. Killed by
torchrun, it takes the rank along: the launcher sees the socket close. Where there is no launcher,
or it may not fork, this process becomes the rank itself.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from typing import NoReturn

from orchestra.wire import lifeline
from orchestra.wire.job import LAUNCHER


def main() -> int:
    """The rank's exit code; a rank killed by a signal kills this process by the same."""
    lifeline.die_with_parent()
    try:
        asking = socket.socket(socket.AF_UNIX)
        asking.connect(os.environ[LAUNCHER])
    except OSError:
        _become_rank()
    request = {"arguments": sys.argv[1:], "environment": dict(os.environ)}
    data = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(asking, [data], [1, 2])
    asking.sendall(data[sent:])
    answers = asking.makefile("rb")
    if not json.loads(answers.readline() or b'{"pid": 0}')["pid"]:
        _become_rank()
    line = answers.readline()
    if not line:  # the launcher died, and the rank with it
        return 1
    end = json.loads(line)
    return _end_by(end["signal"]) if end["signal"] else int(end["code"])


def _become_rank() -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", "orchestra.train.rank", *sys.argv[1:]])


def _end_by(number: int) -> int:
    """Die of the signal; the exit code for one that does not kill."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the rank's own core is the useful one
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
