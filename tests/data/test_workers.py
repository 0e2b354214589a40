"""A loader worker that hangs in its fork is forked again; CPython 3.11's own can't be timed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# What a child of a fork hangs in here comes after CPython's own, and before any line of ours.
PROGRAM = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from torch.utils.data import DataLoader
    from orchestra.data import workers

    folder, hangs, context = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    workers.PATIENCE_S = (0.3, 0.3, float(sys.argv[4]))

    def in_child():
        forked = len(list(folder.iterdir()))
        (folder / str(os.getpid())).touch()
        if forked < hangs:
            time.sleep(600)

    os.register_at_fork(after_in_child=in_child)
    loader = DataLoader(
        range(6),
        batch_size=2,
        num_workers=2,
        timeout=0 if context == "ours" else 2,
        multiprocessing_context=workers.WorkerContext() if context == "ours" else "fork",
    )
    print([batch.tolist() for batch in loader])
    """
)


def run(
    folder: Path, hangs: int, context: str, last_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(hangs), context, str(last_s)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def alive(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if Path("/proc", path.name).exists()]


@pytest.mark.parametrize("hangs", [0, 2])
def test_all_is_read_and_no_process_is_left(tmp_path: Path, hangs: int) -> None:
    done = run(tmp_path / "forks", hangs, "ours")
    assert done.stdout == "[[0, 1], [2, 3], [4, 5]]\n", done.stderr
    assert len(list((tmp_path / "forks").iterdir())) == 2 + hangs
    assert not alive(tmp_path / "forks")


def test_control_with_torchs_own_context_nothing_comes(tmp_path: Path) -> None:
    done = run(tmp_path / "forks", 1, "fork")
    assert done.returncode != 0 and "timed out" in done.stderr


def test_a_worker_that_never_begins_is_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path / "forks", 3, "ours", last_s=0.5)
    assert "a loader worker did not begin within" in done.stderr
    assert "data.workers=0" in done.stderr and not alive(tmp_path / "forks")
