"""The one thread: the newest question wins, errors are answers, what it opened it closes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra.tui.background import Background
from orchestra.wire.errors import OrchestraError

PATIENCE_S = 60.0


def at_once(answer: Callable[[], None]) -> None:
    answer()


def unexpected(error: OrchestraError) -> None:
    raise AssertionError(error)


def test_of_questions_that_wait_for_one_slot_the_newest_is_answered() -> None:
    background = Background("test", at_once)
    answers: list[str] = []
    last = threading.Event()
    for number in range(5):
        background.ask("a", lambda number=number: f"a{number}", answers.append, unexpected)
    background.ask("b", lambda: "b", answers.append, unexpected)
    background.ask("c", lambda: None, lambda _: last.set(), unexpected)
    background.start()
    assert last.wait(PATIENCE_S)
    background.stop()
    assert answers == ["a4", "b"]


def test_an_error_is_an_answer_and_the_thread_goes_on() -> None:
    background = Background("test", at_once)
    told: list[str] = []
    last = threading.Event()

    def fail() -> None:
        raise OrchestraError("the disk is gone")

    background.ask("a", fail, lambda _: None, lambda error: told.append(str(error)))
    background.ask("b", lambda: None, lambda _: last.set(), unexpected)
    background.start()
    assert last.wait(PATIENCE_S)
    background.stop()
    assert told == ["the disk is gone"]


def test_the_last_thing_happens_in_the_thread_and_nothing_is_answered_after_it() -> None:
    background = Background("test", at_once)
    where: list[str] = []
    background.start()
    background.stop(
        last=lambda: where.append(threading.current_thread().name), timeout_s=PATIENCE_S
    )
    background.ask("late", lambda: "late", where.append, unexpected)
    assert where == ["test"]


def test_what_is_to_be_done_surely_is_done_at_the_end_and_nothing_else() -> None:
    background = Background("test", at_once)
    busy, go, done = threading.Event(), threading.Event(), []

    def work() -> None:
        busy.set()
        go.wait(PATIENCE_S)

    background.ask("a", work, done.append, unexpected)
    background.start()
    assert busy.wait(PATIENCE_S)
    background.ask("stop", lambda: done.append("stopped"), print, unexpected, surely=True)
    background.ask("look", lambda: done.append("looked"), print, unexpected)
    assert not background.stop(timeout_s=0.0)
    go.set()
    assert background.stop(timeout_s=PATIENCE_S)
    assert done == ["stopped"]


def test_what_the_system_refuses_is_a_sentence() -> None:
    background = Background("test", at_once)
    told: list[str] = []
    last = threading.Event()

    def fail() -> None:
        Path("/nowhere/at/all").read_text()

    background.ask("a", fail, unexpected, lambda error: told.append(str(error)))
    background.ask("b", lambda: None, lambda _: last.set(), unexpected)
    background.start()
    assert last.wait(PATIENCE_S)
    background.stop()
    assert told == ["cannot use /nowhere/at/all: No such file or directory"]


def test_a_bug_is_raised_on_the_screens_thread_and_not_in_this_one() -> None:
    answers: list[Callable[[], None]] = []
    last = threading.Event()

    def deliver(answer: Callable[[], None]) -> None:
        answers.append(answer)
        last.set()

    background = Background("test", deliver)
    background.ask("a", lambda: 1 // 0, lambda _: None, unexpected)
    background.start()
    assert last.wait(PATIENCE_S)
    background.stop()
    with pytest.raises(ZeroDivisionError):
        answers[0]()
