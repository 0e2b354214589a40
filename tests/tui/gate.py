"""Answers that come late: a background thread that is held until the test lets it go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from textual.pilot import Pilot

from orchestra.tui.background import Background
from orchestra.wire.errors import OrchestraError
from tests.tui.showing import until

_GATE, _LAST = "gate", "last"


@contextmanager
def held(*threads: Background) -> Iterator[Callable[[], None]]:
    """They answer nothing inside, until its end or a call; questions wait."""
    gate = threading.Event()
    for thread in threads:
        thread.ask(_GATE, gate.wait, _ignore, _ignore)
    try:
        yield gate.set
    finally:
        gate.set()


def waiting(thread: Background) -> list[str]:
    """The slots whose questions wait."""
    with thread._changed:
        return [slot for slot in thread._waiting if slot != _GATE]


async def asked(pilot: Pilot[None], thread: Background, word: str) -> None:
    """Until a question waits whose slot has this word."""
    await until(pilot, lambda: any(word in slot for slot in waiting(thread)))


async def answered(pilot: Pilot[None], *threads: Background) -> None:
    """Until all that was asked so far has been answered, and drawn."""
    for thread in threads:
        answers: list[object] = []
        thread.ask(_LAST, object, answers.append, _ignore)
        await until(pilot, lambda answers=answers: bool(answers))  # type: ignore[misc]
    await pilot.pause()


def let_go_at_its_end(thread: Background, go: Callable[[], None]) -> None:
    """Hold it until it has been told to stop."""
    stop = thread.stop

    def stopping(**more: Any) -> bool:
        stop(timeout_s=0.0)
        go()
        return stop(**more)

    thread.stop = stopping  # type: ignore[method-assign]


def _ignore(_: object | OrchestraError) -> None:
    return None
