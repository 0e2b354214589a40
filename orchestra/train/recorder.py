"""What rank 0 tells the world: records for the supervisor, TensorBoard files, log lines.

A full disk loses records, never the run.
"""

from __future__ import annotations

import errno
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from orchestra.wire.folders import AttemptFolder
from orchestra.wire.records import Kind, Record, RecordWriter

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

log = logging.getLogger("orchestra")
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Recorder:
    """Writes in rank 0; does nothing in the others."""

    def __init__(self, attempt: AttemptFolder, enabled: bool) -> None:
        self._attempt = attempt
        self._records = RecordWriter(attempt.records) if enabled else None
        self._board: SummaryWriter | None = None
        self._lost = 0

    def write(self, kind: Kind, step: int, values: dict[str, Any]) -> None:
        """One record, and its numbers as TensorBoard points."""
        if self._records is None:
            return
        try:
            if self._lost:
                text = f"the disk was full: {self._lost} records are lost"
                self._records.write(Record("notice", step, time.time(), {"text": text}))
                self._lost = 0
            self._records.write(Record(kind, step, time.time(), values))
            if kind in ("train", "validation"):
                self._plot(kind, step, values)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self._lost += 1
        log.info("%s at step %d: %s", kind, step, _readable(values))

    def notice(self, step: int, text: str) -> None:
        """A sentence for people."""
        self.write("notice", step, {"text": text})

    def close(self) -> None:
        """Flush everything."""
        if self._records is not None:
            self._records.close()
        if self._board is not None:
            self._board.close()

    def _plot(self, kind: str, step: int, values: dict[str, Any]) -> None:
        if self._board is None:
            # Imported at the first point: it would delay the first step by 0.1 s.
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(self._attempt.tensorboard))
        for name, value in values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)


def _readable(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.5g}"
        if isinstance(value, float) and math.isfinite(value)
        else f"{name} {value}"
        for name, value in values.items()
    )
