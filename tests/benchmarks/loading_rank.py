"""A stand-in rank (tests/chaos) with one stand-in loader worker, as torch's: the worker dies with
the rank, and the rank fails when the worker dies.

Lies in a sandbox's code snapshot as orchestra/train/rank.py, with the plain one beside it.
"""

from __future__ import annotations

import os
import runpy
import signal
from types import FrameType

from orchestra.wire import lifeline


def _work(rank: int) -> None:
    os.environ[lifeline.PARENT_PID] = str(rank)
    lifeline.die_with_parent()
    while True:
        signal.pause()


def _fail(number: int, frame: FrameType | None) -> None:
    raise RuntimeError("the loader worker exited unexpectedly")


rank = os.getpid()
if os.fork() == 0:
    _work(rank)
signal.signal(signal.SIGCHLD, _fail)
runpy.run_module("orchestra.train.plain_rank", run_name="__main__")
