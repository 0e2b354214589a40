"""Waiting for another rank's committed file: bounded by that rank's life, never by a timeout.

A collective would hold a timer over work that may rightly take hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from orchestra.train.distributed import Peer
from orchestra.wire.errors import OrchestraError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05


def wait_for_file(path: Path, peer: Peer, tick: Callable[[], None]) -> None:
    """Return once `path`, which `peer` commits by a rename, is there.

    Args:
        tick: called at every look, so that the waiting rank's heart beats; may raise.

    Raises:
        OrchestraError: the peer died without having committed the file.
    """
    pause_s = FIRST_PAUSE_S
    while not path.exists():
        # In this order: a peer that committed and then ended has done its duty.
        if not peer.is_alive() and not path.exists():
            raise OrchestraError(f"rank {peer.rank} died before it wrote {path}")
        tick()
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
