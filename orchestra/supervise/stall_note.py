"""Tells those who look on that a rank is silent for long, and what will be done (wire/stall.py).

Nothing depends on it: where it can't be written the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestra.supervise.hang import Silence
from orchestra.supervise.log import log
from orchestra.wire.errors import OrchestraError
from orchestra.wire.stall import StallNotice, remove_stall, write_stall

_SAME_S = 1.0  # a reader counts down by itself; what drifts less needs no new file


class StallNote:
    """Of one attempt."""

    def __init__(self, folder: Path, action: Callable[[Silence], str]) -> None:
        """`action`: what will be done if that rank stays silent; asked when something changes."""
        self._folder = folder
        self._action = action
        self._told: StallNotice | None = None

    def tell(self, silence: Silence | None, now_s: float) -> None:
        """Write, replace or remove the notice, where it differs.

        Args:
            silence: None: all is well.
            now_s: time.monotonic()
        """
        if silence is None:
            if self._told is not None:
                remove_stall(self._folder)
                self._told = None
            return
        notice = _notice(silence, now_s)
        if self._told is None or not _is_like(notice, self._told):
            self._told = notice
            self._write(silence, notice)

    def _write(self, silence: Silence, notice: StallNotice) -> None:
        try:
            write_stall(self._folder, replace(notice, action=self._action(silence)))
        except (OrchestraError, OSError) as error:
            log(f"a stall can't be told to the monitor: {error}")


def _notice(silence: Silence, now_s: float) -> StallNotice:
    return StallNotice(
        rank=silence.rank,
        pid=silence.pid,
        phase=silence.phase,
        step=silence.step,
        state=silence.state,
        since_s=now_s - silence.silent_s,
        due_s=now_s + silence.left_s,
        action="",
    )


def _is_like(one: StallNotice, other: StallNotice) -> bool:
    """Apart from what follows, and from times that are about the same."""
    near = abs(one.due_s - other.due_s) < _SAME_S and abs(one.since_s - other.since_s) < _SAME_S
    timed = replace(one, since_s=other.since_s, due_s=other.due_s)
    return near and replace(timed, action=other.action) == other
