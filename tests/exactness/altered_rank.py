"""A rank with one guarantee taken away or one fault put in, named by the environment's ALTER."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    from orchestra.train import checkpoint, learner, rank, step

    alter = os.environ["ALTER"]
    if alter == "no-warm-up":
        learner.warm_up = lambda *arguments: []
    elif alter == "no-reseeding":
        step.reseed = lambda *arguments: None
    elif alter.startswith("kill-in-save:"):
        _kill_before_write(checkpoint, int(alter.split(":")[1]))
    else:
        raise ValueError(alter)
    return rank.main()


def _kill_before_write(checkpoint: object, number: int) -> None:
    """SIGKILL in the middle of the n-th file that a checkpoint writes."""
    writes = iter(range(1000))

    def torn(path: object, data: bytes) -> None:
        if next(writes) == number:
            path.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        original(path, data)

    original = checkpoint._write_durably
    checkpoint._write_durably = torn


if __name__ == "__main__":
    sys.exit(main())
