"""One of several ranks of a job, for tests.train.together: the product's rank without torchrun,
which imports everything once more itself and once in each rank. Arguments: rank, ranks, port, then
those of orchestra.train.rank; watched (tests/exactness/watched_rank.py) where that is asked for."""

from __future__ import annotations

import os
import socket
import sys
from importlib import import_module

from orchestra.train import agent, rank

for name in agent._RANKS:  # once, before the ranks are forked
    import_module(name)


def main() -> None:
    number, ranks, port, *arguments = sys.argv[1:]
    os.environ |= {
        **{"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
    }
    sys.argv = [sys.argv[0], *arguments]
    if "WATCH_LOG" in os.environ:
        from tests.exactness import watched_rank  # which reads RANK

        sys.exit(watched_rank.main())
    sys.exit(rank.main())


def free_port() -> int:
    """For the ranks to meet at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
