"""One thread for all that would freeze the screen: SQLite, files, NVML, git.

Never a thread per run or widget. Of several requests for one slot only the newest is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestra.wire.errors import OrchestraError

Deliver = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class _Question:
    task: Callable[[], Callable[[], None]]
    """Gives what is to be done on the screen's thread."""
    surely: bool


class Background:
    """`deliver` runs a function on the screen's thread; it is called from this one's."""

    def __init__(self, name: str, deliver: Deliver) -> None:
        self._deliver = deliver
        self._waiting: dict[str, _Question] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._last: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin with what has been asked so far."""
        self._thread.start()

    def ask(
        self,
        slot: str,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[OrchestraError], None],
        *,
        surely: bool = False,
    ) -> None:
        """Do `work` in the thread, then give `done` its result (or `failed` its error) on the
        screen's. What still waits for the same slot is forgotten.

        `surely`: it is done, if not answered, even when the program ends meanwhile.
        """

        def task() -> Callable[[], None]:
            try:
                result = work()
            except (OrchestraError, OSError) as caught:
                error = _sentence(caught)
                return lambda: failed(error)
            return lambda: done(result)

        with self._changed:
            self._waiting.pop(slot, None)
            self._waiting[slot] = _Question(task, surely)
            self._changed.notify()

    def stop(self, *, last: Callable[[], None] | None = None, timeout_s: float = 2.0) -> bool:
        """Forget what waits, but for what is to be done surely; wait for the rest, bounded.

        False if it was not done in that time. `last`: done in the thread at its end; what it
        opened (SQLite) it alone may close.
        """
        with self._changed:
            self._last = last
            self._ended = True
            kept = {slot: each for slot, each in self._waiting.items() if each.surely}
            self._waiting = kept
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._waiting)
                if not self._waiting:
                    break
                question = self._waiting.pop(next(iter(self._waiting)))
            try:
                answer = question.task()
            except Exception as error:  # noqa: BLE001 - a bug: raised anew on the screen's thread
                answer = _raise(error)
            if not self._ended:
                self._deliver(answer)
        if self._last is not None:
            self._last()


def _sentence(error: OrchestraError | OSError) -> OrchestraError:
    if isinstance(error, OrchestraError):
        return error
    return OrchestraError(f"cannot use {error.filename}: {error.strerror or error}")


def _raise(error: Exception) -> Callable[[], None]:
    def answer() -> None:
        raise error

    return answer
