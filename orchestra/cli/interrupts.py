"""Ctrl-C as something that is asked about, not as an exception out of the blue."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class Interrupts:
    """Counts Ctrl-C while active; use in the main thread."""

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> Interrupts:
        self._previous = signal.signal(signal.SIGINT, self._count_one)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def take(self) -> bool:
        """Whether there was one since the last call."""
        count, self._count = self._count, 0
        return count > 0

    def _count_one(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
