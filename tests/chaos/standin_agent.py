"""An agent without torch: it starts, watches and stops ranks, each in a new session, as torchrun.

Lies in a sandbox's code snapshot as orchestra/train/agent.py, beside the real launcher.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestra.wire.failures import RankFailure, write_failures
from orchestra.wire.folders import Job


def preload(job: Path) -> None:
    """There is nothing that takes long to import."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nproc", type=int)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--kind")
    parser.add_argument("--attempt", type=int)
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "orchestra.train.rank", *argv],
            env={**os.environ, "RANK": str(rank)},
            start_new_session=True,
        )
        for rank in range(arguments.nproc)
    ]
    failed = []
    try:
        while not failed and any(rank.poll() is None for rank in ranks):
            time.sleep(0.1)
            failed = [(number, rank) for number, rank in enumerate(ranks) if rank.poll()]
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.terminate()
    if not failed:
        return 0
    for rank in ranks:
        rank.wait()
    write_failures(
        Job(arguments.kind, arguments.job).attempt(arguments.attempt).failures,
        [
            RankFailure(
                rank=number,
                pid=rank.pid,
                exit_code=max(0, rank.returncode),
                signal=max(0, -rank.returncode),
                time_s=time.time(),
                message="",
            )
            for number, rank in failed
        ],
    )
    return 1
