"""Copies what happens into the SQLite stores, in order, without ever stopping the job.

Run folders are the truth. A registry that is locked, full or broken for a while must not kill a
training; what could not be written waits here and is tried again.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import ParamSpec

from orchestra.supervise.log import log
from orchestra.wire.errors import NotFoundError, OrchestraError

_P = ParamSpec("_P")


class Mirror:
    """A queue of writes to one store, which `name` says in the log."""

    def __init__(self, name: str = "the registry") -> None:
        self._name = name
        self._lanes: list[Mirror] = []
        self._waiting: deque[Callable[[], object]] = deque()
        self._complaint = ""

    def lane(self, name: str) -> Mirror:
        """A queue for another store that is flushed with this one; neither waits for the other."""
        self._lanes.append(Mirror(name))
        return self._lanes[-1]

    def add(self, write: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Write now or, if that fails, later; the order is kept."""
        self._waiting.append(partial(write, *args, **kwargs))
        self._flush()

    def flush(self) -> bool:
        """Try what waits; True if nothing is left."""
        return all([self._flush(), *(lane.flush() for lane in self._lanes)])

    def _flush(self) -> bool:
        while self._waiting:
            try:
                self._waiting[0]()
            except NotFoundError as error:  # the row was removed; no use to try again
                log(f"not recorded: {error}")
            except (OrchestraError, sqlite3.Error) as error:
                self._complain(str(error))
                return False
            self._waiting.popleft()
        self._complain("")
        return True

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self._complaint:
            log(f"{self._name} can't be written: {complaint}; will be tried again")
        elif self._complaint and not complaint:
            log(f"{self._name} is up to date again")
        self._complaint = complaint
