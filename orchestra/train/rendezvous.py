"""Files by which ranks tell each other what they found: bounded by a rank's life, by no timeout.

A collective would hold a timer over work that may rightly take hours.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from orchestra.train.distributed import Peer
from orchestra.wire.errors import DiskFullError, OrchestraError
from orchestra.wire.files import DISK_FULL, write_atomic

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05


class Exchange:
    """A folder of files that are there whole or not at all.

    Args:
        folder: empty or new, the same on all ranks.
        spare: a folder in memory for what a full disk does not take; without it that is an error.
    """

    def __init__(self, folder: Path, spare: Path | None = None) -> None:
        self._folder = folder
        self._spare = spare

    def write(self, name: str, data: bytes) -> None:
        """Commit a file (OSError, OrchestraError)."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._folder / name, data)
        except (DiskFullError, OSError) as error:
            full = isinstance(error, DiskFullError) or error.errno in DISK_FULL
            if self._spare is None or not full:
                raise
            write_atomic(self._in_spare(self._spare, name), data)

    def find(self, name: str) -> Path | None:
        """The committed file; None if there is none yet."""
        places = [self._folder / name]
        if self._spare is not None:
            places.append(self._in_spare(self._spare, name))
        return next((path for path in places if path.exists()), None)

    def wait_for(self, name: str, peer: Peer, tick: Callable[[], None]) -> Path:
        """The file, once `peer` has committed it.

        Args:
            tick: called at every look, so that the waiting rank's heart beats; may raise.

        Raises:
            OrchestraError: the peer died without having committed the file.
        """
        pause_s = FIRST_PAUSE_S
        while (path := self.find(name)) is None:
            # In this order: a peer that committed and then ended has done its duty.
            if not peer.is_alive() and self.find(name) is None:
                raise OrchestraError(f"rank {peer.rank} died before it wrote {self._folder / name}")
            tick()
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
        return path

    def remove(self) -> None:
        """Leave nothing of it, as far as possible."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._spare is not None:
            for path in self._spare.glob(f"{self._folder.name}.*"):
                path.unlink(missing_ok=True)

    def _in_spare(self, spare: Path, name: str) -> Path:
        """Beside the files of others: no folder of its own, which somebody would have to remove."""
        return spare / f"{self._folder.name}.{name}"
