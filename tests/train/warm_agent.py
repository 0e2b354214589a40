"""An agent without torch for tests of the warm launcher: does what its arguments say.

Lies in the tests' code folder as orchestra/train/agent.py, and as rank.py beside it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from orchestra.wire import lifeline


def preload(job: Path) -> None:
    """Takes a thread along, where the test wants it so."""
    import numpy  # noqa: F401

    if "WITH_THREAD" in os.environ:
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    what, *rest = sys.argv[1:] if argv is None else argv
    if what == "exit":
        return int(rest[0])
    if what == "signal":
        signal.signal(int(rest[0]), signal.SIG_DFL) if rest[0] != "9" else None
        os.kill(os.getpid(), int(rest[0]))
    elif what == "raise":
        raise OSError("boom")
    elif what == "tell":
        tell(Path(rest[0]))
    elif what == "rank":  # as torchrun starts one
        path = Path(rest[0])
        rank = subprocess.Popen(
            [sys.executable, "-m", "orchestra.train.forked", *rest[1:]],
            env={**os.environ, "RANK": "1", "LOCAL_RANK": "1"},
            start_new_session=True,
        )
        write(path, {"standin": rank.pid})
        write(path.with_suffix(".end"), {"code": rank.wait()})
    time.sleep(600 if what in ("sleep", "tell", "rank") else 0)
    return 0


def tell(path: Path) -> None:
    """What a test wants to know of this process; then sleep."""
    import numpy

    folder = Path("/proc/self/fd")
    write(
        path,
        {
            "pid": os.getpid(),
            "environment": dict(os.environ),
            "descriptors": {fd.name: str(fd.readlink()) for fd in folder.iterdir() if fd.exists()},
            "draws": [random.random(), float(numpy.random.rand())],
        },
    )


def write(path: Path, document: dict[str, object]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(document))
    temporary.rename(path)


if __name__ == "__main__":
    lifeline.die_with_parent()
    lifeline.announce(os.environ)
    sys.exit(main())
