"""What rank 0 tells the world: records for the supervisor, TensorBoard files, log lines.

A full disk loses records, never the run.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from orchestra.train import lines
from orchestra.wire.files import DISK_FULL
from orchestra.wire.folders import AttemptFolder
from orchestra.wire.records import Kind, Record, RecordWriter

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

log = logging.getLogger("orchestra")
LogFormat = Literal["text", "json"]


class Recorder:
    """Writes in rank 0; does nothing in the others.

    Args:
        log_format: of the line that each record leaves in the rank's log. "json": one object per
            line with the keys of records.jsonl, null for what is not finite.
    """

    def __init__(
        self, attempt: AttemptFolder, enabled: bool, log_format: LogFormat = "text"
    ) -> None:
        self._attempt = attempt
        self._records = RecordWriter(attempt.records) if enabled else None
        # JSON lines go without the time and level that log lines begin with.
        self._bare = logging.StreamHandler() if log_format == "json" else None
        self._board: SummaryWriter | None = None
        self._plots_fail = False
        self._lost = 0

    def write(self, kind: Kind, step: int, values: dict[str, Any]) -> None:
        """One record, and its numbers as TensorBoard points."""
        if self._records is None:
            return
        record = Record(kind, step, time.time(), values)
        try:
            if self._lost:
                text = f"the disk was full: {self._lost} records are lost"
                self._records.write(Record("notice", step, record.time_s, {"text": text}))
                self._lost = 0
            self._records.write(record)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self._lost += 1
        self._log(record)
        if kind in ("train", "validation"):
            self._plot(record)

    def notice(self, step: int, text: str) -> None:
        """A sentence for people."""
        self.write("notice", step, {"text": text})

    def close(self) -> None:
        """Flush everything."""
        if self._records is not None:
            self._records.close()
        if self._board is not None:
            try:
                self._board.close()
            except OSError as error:
                log.warning("the last TensorBoard points are lost: %s", error)

    def _plot(self, record: Record) -> None:
        """Points for TensorBoard, whose files training can do without."""
        try:
            self._add_points(record)
        except OSError as error:
            self._board = None  # a writer that failed once fails for ever; the next is a new one
            if not self._plots_fail:
                self._plots_fail = True
                self.notice(record.step, f"TensorBoard points are lost: {error}")
        else:
            self._plots_fail = False

    def _add_points(self, record: Record) -> None:
        if self._board is None:
            # Imported at the first point: it would delay the first step by 0.1 s.
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(self._attempt.tensorboard))
        for name, value in record.values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{record.kind}/{name}", value, record.step)

    def _log(self, record: Record) -> None:
        if self._bare is None:
            log.info("%s", lines.text(record))
        else:
            line = lines.json_line(record)
            self._bare.handle(logging.LogRecord(log.name, logging.INFO, "", 0, line, None, None))
