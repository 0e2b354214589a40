"""Saving a whole log to a file of the user's, in slices: a big one takes a while."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from orchestra.schedule.log_fold import fold, label
from orchestra.schedule.log_view import LogView, Place
from orchestra.wire.errors import ConflictError, OrchestraError, UsageError

_LINES = 500
_CHUNK_BYTES = 1 << 20


class Saving:
    """One log byte for byte; several as one, in order of time, folded."""

    def __init__(self, paths: Mapping[str, Path], target: Path) -> None:
        self._paths = paths
        self._place: Place = {}
        self.target = target
        self.saved_bytes = 0
        self._begun = False

    def advance(self, budget_s: float) -> bool:
        """Write for about so long; True once all is written.

        Raises:
            ConflictError: the file exists.
            UsageError: a file can't have that name.
            OrchestraError: it can't be written.
        """
        deadline = time.monotonic() + budget_s
        self.target = _absolute(self.target)
        data = self._read()  # before there is a file: what can't be read leaves none
        try:
            with self.target.open("ab" if self._begun else "xb") as file:
                self._begun = True
                while data:
                    file.write(data)
                    self.saved_bytes += len(data)
                    if time.monotonic() >= deadline:
                        return False
                    data = self._read()
        except FileExistsError:
            raise ConflictError(f"{self.target} exists: give another name") from None
        except OSError as error:
            raise OrchestraError(f"cannot write {self.target}: {error.strerror}") from error
        return True

    def _read(self) -> bytes:
        try:
            return self._next()
        except OSError as error:
            raise OrchestraError(f"cannot read {error.filename}: {error.strerror}") from error

    def _next(self) -> bytes:
        if len(self._paths) == 1:
            (path,) = self._paths.values()
            with path.open("rb") as file:
                return os.pread(file.fileno(), _CHUNK_BYTES, self.saved_bytes)
        window = LogView(self._paths).after(self._place, _LINES)
        self._place = window.end
        lines = (f"[{label(said.logs)}] {said.line.text}\n" for said in fold(window.lines))
        return "".join(lines).encode(errors="surrogateescape")


def _absolute(target: Path) -> Path:
    if "\0" in str(target):
        raise UsageError("a file's name can't have a NUL in it: give another name")
    try:
        return target.expanduser().absolute()
    except RuntimeError as error:  # ~nosuchuser
        raise UsageError(f"{target}: {error} Give another name.") from error
