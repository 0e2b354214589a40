"""records.jsonl: what rank 0 tells the supervisor, one JSON object per line, append only.

Kinds and their `values` (what is not known is left out):
    start       step (resumed from), max_steps (null: the clock ends it), steps_per_epoch,
                world_size, micro_batches, parameters, trainable, parts (objects with part,
                parameters, trainable, later, share), data, upstream, plan (steps, micro_batches,
                padding, fill of an epoch)
    train       loss and the task's scalars, lr, grad_norm, audio_s_per_s, steps_per_s, data_share,
                communication_share, memory_bytes, eta_s, eta_evaluation_s, eta_checkpoint_s (see
                train/statistics.py), epoch (with its fraction), skipped (steps not applied so far)
    validation  split, on (`10 of 60 utterances`, with data.valid_utterances), each of the task's
                metrics under its own name, seconds_per_utterance, real_time_factor (see
                train/evaluation.py)
    checkpoint  path (relative to the run folder), score (number or null), metric (name or null),
                best_score (of the checkpoints that exist; number or null)
    evaluation  number, split, checkpoint (path), checkpoint_step, metrics (name -> number),
                seconds_per_utterance, real_time_factor
    notice      text: a sentence for people
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

VERSION = 1
Kind = Literal["start", "train", "validation", "checkpoint", "evaluation", "notice"]

_NEEDED: dict[str, set[str]] = {  # values that readers count on, by kind
    "start": set(),
    "train": set(),
    "validation": set(),
    "checkpoint": {"path", "score", "metric"},
    "evaluation": {"number", "split", "checkpoint", "checkpoint_step", "metrics"},
    "notice": {"text"},
}


@dataclass(frozen=True)
class Record:
    """One line. `time_s` is Unix time."""

    kind: Kind
    step: int
    time_s: float
    values: dict[str, Any]


class RecordWriter:
    """Appends records; each line is one `write`, so a reader never sees half of two."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(self._fd).st_size
        self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def write(self, record: Record) -> None:
        """Append one line.

        Raises:
            OSError: ENOSPC if only a part of it fitted; readers skip that part.
        """
        document = {
            "version": VERSION,
            "kind": record.kind,
            "step": record.step,
            "time_s": record.time_s,
            "values": record.values,
        }
        # NaN and infinity stay readable: Python's json writes and reads them by name.
        line = json.dumps(document).encode() + b"\n"
        if self._torn:
            line = b"\n" + line  # what is torn stays a line of its own
        written = os.write(self._fd, line)
        self._torn = written < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_records(file: IO[bytes]) -> Iterator[Record]:
    """Whole lines from the file's position on; a torn last line is left for the next call.

    A line that is not a record (a torn write of a killed rank, garbage) is skipped.
    """
    while True:
        position = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(position)
            return
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _is_record(document):
            yield Record(document["kind"], document["step"], document["time_s"], document["values"])


def _is_record(document: Any) -> bool:
    """Whether whoever reads it finds what the module's docstring says."""
    return (
        isinstance(document, dict)
        and isinstance(document.get("kind"), str)
        and document["kind"] in _NEEDED
        and isinstance(document.get("step"), int)
        and isinstance(document.get("time_s"), int | float)
        and isinstance(document.get("values"), dict)
        and document["values"].keys() >= _NEEDED[document["kind"]]
    )
