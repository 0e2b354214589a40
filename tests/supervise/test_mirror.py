from __future__ import annotations

import sqlite3

import pytest

from orchestra.supervise.mirror import Mirror
from orchestra.wire.errors import ConflictError, NotFoundError


class Store:
    """Writes that fail while `error` is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.written: list[int] = []

    def write(self, value: int) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(value)


@pytest.mark.parametrize("error", [ConflictError("locked"), sqlite3.OperationalError("disk I/O")])
def test_failed_writes_wait_and_keep_their_order(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    store, mirror = Store(), Mirror()
    store.error = error
    mirror.add(store.write, 1)
    mirror.add(store.write, 2)
    assert not mirror.flush()
    store.error = None
    mirror.add(store.write, 3)
    assert store.written == [1, 2, 3]
    said = capsys.readouterr().err
    assert said.count("can't be written") == 1
    assert "up to date again" in said


def test_a_row_that_was_removed_does_not_block_the_rest() -> None:
    store, mirror = Store(), Mirror()
    store.error = NotFoundError("no run")
    mirror.add(store.write, 1)
    store.error = None
    mirror.add(store.write, 2)
    assert store.written == [2]
