"""The feature cache of a run: looks utterances up, reads what is stored, writes what was computed.

Ranks, loader workers and runs share one folder. A file appears whole, under a name that follows
from its content's causes; readers take it or leave it, nobody waits. What can't be written costs
time in the next epoch, never the run. Knows no model: what is in an entry is others' matter.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestra.data.feature_file import Entry, encoded, read_into, verified
from orchestra.tasks import Stored
from orchestra.wire.errors import DataError, OrchestraError
from orchestra.wire.features import KIND, NEW, RESERVE_BYTES, entry_path, existing, sweep, usage
from orchestra.wire.files import DISK_FULL, write_json
from orchestra.wire.identity import marked
from orchestra.wire.manifest import Utterance

log = logging.getLogger("orchestra")

VERSION = 1
"""Of the form of entries. Raise it with that: old ones are then missed."""

_Parts = tuple[bytes, memoryview]
_WAITING = 4  # utterances; more of them make the training wait
_WRITERS = 16
"""So many that fill a folder at once keep to its limit: each takes that share of what is left."""


@dataclass(frozen=True)
class Kind:
    """What the entries of one folder have in common."""

    causes: dict[str, Any]
    """Everything but the audio that the features follow from; JSON."""
    remarks: dict[str, Any]
    """What people want to know of it besides; JSON."""
    layers: int
    dim: int

    @property
    def name(self) -> str:
        text = json.dumps({"version": VERSION, **self.causes}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Found:
    """An utterance's key, and its entry if there is a good one."""

    key: str
    entry: Entry | None
    damage: str = ""
    """What was wrong with the entry that there was."""


class FeatureStore:
    """The entries of one kind.

    Args:
        content: names the audio of an utterance.
        tell: takes sentences for people; called by the main thread.
        limit_bytes: more than that is not stored, whoever stored what is there.
    """

    def __init__(
        self,
        folder: Path,
        kind: Kind,
        content: Callable[[Utterance], str],
        tell: Callable[[str], None],
        limit_bytes: int,
    ) -> None:
        self._folder = folder
        self._kind = kind
        self._content = content
        self._tell = tell
        self._limit_bytes = limit_bytes
        self._writer: _Writer | None = None
        self._stopped = False
        try:
            self._make()
        except (OSError, OrchestraError) as error:
            self._stop(f"its folder can't be made: {error}")
        sweep(folder)

    def _make(self) -> None:
        own = self._folder / self._kind.name
        for path in (own, self._folder / NEW):
            path.mkdir(parents=True, exist_ok=True)
        if not (own / KIND).exists():
            causes = {"version": VERSION, **self._kind.causes, **self._kind.remarks}
            write_json(own / KIND, causes)

    def find(self, utterance: Utterance) -> Found:
        """Its entry, verified; for loader workers (DataError: the audio is missing)."""
        return self._find(hashlib.sha256(self._content(utterance).encode()).hexdigest()[:40])

    def found_since(self, found: Sequence[Found]) -> list[Found]:
        """The same with what was missed when a worker looked ahead, and is there now."""
        return [each if each.entry or each.damage else self._find(each.key) for each in found]

    def _find(self, key: str) -> Found:
        path = entry_path(self._folder, self._kind.name, key)
        try:
            entry = verified(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return Found(key, None)
        except DataError as error:
            return Found(key, None, str(error))
        if (entry.shape[0], entry.shape[2]) != (self._kind.layers, self._kind.dim):
            return Found(key, None, f"{path} is damaged: its shape is {entry.shape}")
        return Found(key, entry)

    def gather(self, found: Sequence[Found]) -> Stored:
        """The features of a batch, where they were found.

        Raises:
            OSError, DataError: an entry went in the meantime.
        """
        for each in found:
            if each.damage:
                self._tell(f"feature cache: {each.damage}; its features are computed again")
        lengths = [each.entry.frames if each.entry else 0 for each in found]
        layers = torch.empty(
            (self._kind.layers, len(found), max(lengths), self._kind.dim),
            dtype=torch.float16,
            pin_memory=torch.cuda.is_initialized(),  # type: ignore[no-untyped-call]
        )
        for row, (each, length) in enumerate(zip(found, lengths, strict=True)):
            if each.entry:
                read_into(each.entry, layers[:, row, :length])
            layers[:, row, length:] = 0  # what memory held may be NaN
        return Stored(layers, torch.tensor(lengths), [each.key for each in found])

    def put(self, key: str, layers: Tensor, samples: int, silent: bool) -> None:
        """Store (layers, frames, dim) float16 on the CPU, soon; whoever is faster is first."""
        if self._stopped:
            return
        if self._writer is None:
            self._writer = _Writer(self._folder, self._limit_bytes, self._make)
        path = entry_path(self._folder, self._kind.name, key)
        self._writer.put(path, encoded(layers, samples, silent))
        self._look_after_writer()

    def close(self) -> None:
        """Write what waits to be written; no thread of it is left. What is put later goes on."""
        if self._writer is not None:
            self._writer.close()
            self._look_after_writer()
            self._writer = None

    def _look_after_writer(self) -> None:
        if self._writer is not None and self._writer.failure and not self._stopped:
            self._stop(self._writer.failure)

    def _stop(self, why: str) -> None:
        self._stopped = True
        self._tell(
            f"feature cache: nothing more is stored, {why}; training goes on and computes what is "
            "not there (make room: `orchestra gc --features 30`)"
        )


class _Writer:
    """A thread that writes entries, so that training does not wait for the disk.

    Args:
        make: the folders; they may be deleted at any time.
    """

    def __init__(self, folder: Path, limit_bytes: int, make: Callable[[], None]) -> None:
        self.failure = ""
        """Why nothing more is written."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._make = make
        self._granted_bytes = 0
        self._waiting: queue.Queue[tuple[Path, _Parts] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="features", daemon=True)
        self._thread.start()

    def put(self, path: Path, parts: _Parts) -> None:
        self._waiting.put((path, parts))

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self.failure:
                continue
            try:
                self._write(*item)
            except OSError as error:
                full = error.errno in DISK_FULL
                self.failure = "the disk is full" if full else f"it can't be written: {error}"
            except OrchestraError as error:
                self.failure = str(error)

    def _write(self, path: Path, parts: _Parts) -> None:
        self.failure = self._lack_of_room(sum(len(part) for part in parts))
        if self.failure:
            return
        try:
            self._place(path, parts)
        except FileNotFoundError:  # the cache was cleared
            self._make()
            self._place(path, parts)

    def _lack_of_room(self, size: int) -> str:
        """The folder is measured again before others can have filled it."""
        free = shutil.disk_usage(existing(self._folder)).free
        if free < RESERVE_BYTES:
            return f"only {free / 2**20:.0f} MiB are free on its disk"
        if size > self._granted_bytes:
            left = self._limit_bytes - usage(self._folder).bytes
            if size > left:
                return f"it holds the {self._limit_bytes / 2**30:g} GiB of cache.max_gb"
            self._granted_bytes = max(size, left // _WRITERS)
        self._granted_bytes -= size
        return ""

    def _place(self, path: Path, parts: _Parts) -> None:
        kind = path.parents[1].name  # another kind's entry of the same audio has the same name
        temporary = self._folder / NEW / marked(f"{kind}-{path.name}")
        try:
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
            path.parent.mkdir(exist_ok=True)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
