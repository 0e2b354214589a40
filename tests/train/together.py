"""Ranks of a test out of one process, which imports what they need once and forks them.

`python -m tests.train.together MODULE RANKS ARGUMENT ...`: each rank calls the module's `main` with
its number before the arguments in sys.argv. Ends with 1 if one of them failed.
"""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 120.0


def run_together(
    module: ModuleType,
    ranks: int,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Until all of them have ended (CalledProcessError: one has failed)."""
    words = [module.__name__, str(ranks), *map(str, arguments)]
    subprocess.run(
        [sys.executable, "-m", "tests.train.together", *words],
        cwd=REPOSITORY,
        # No thread may be there to fork beside: OpenBLAS would start its own.
        env={
            **os.environ,
            **(environment or {}),
            **{"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        },
        check=True,
        timeout=PATIENCE_S,
    )


def main() -> None:
    name, ranks, *arguments = sys.argv[1:]
    module = importlib.import_module(name)
    importlib.import_module("torch._dynamo")  # the first optimizer would, in each rank
    assert len(list(Path("/proc/self/task").iterdir())) == 1, f"{name} started a thread"
    gc.freeze()  # what was imported is never garbage: no rank is to look for it there
    pids = [_fork(module, rank, arguments) for rank in range(int(ranks))]
    ended = [os.waitpid(pid, 0)[1] for pid in pids]
    sys.exit(any(ended))


def _fork(module: ModuleType, rank: int, arguments: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        sys.argv = [module.__name__, str(rank), *arguments]
        code = _call(module)
        sys.stderr.flush()
        os._exit(code)  # tearing torch down would take its time
    return pid


def _call(module: ModuleType) -> int:
    try:
        module.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    main()
