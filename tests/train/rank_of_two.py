"""One of two ranks of a job, for tests.train.together: the product's rank without torchrun, which
imports everything three times more. Arguments: rank, port, then those of orchestra.train.rank."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from orchestra.train import agent, rank

for name in agent._RANKS:  # once, before the ranks are forked
    import_module(name)


def main() -> None:
    number, port, *arguments = sys.argv[1:]
    os.environ |= {
        **{"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
    }
    sys.argv = [sys.argv[0], *arguments]
    sys.exit(rank.main())
