"""No timeout of a collective ends an evaluation, however long one rank takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exactness.launching import REPOSITORY, write_job
from tests.train import slow_ranks

pytestmark = pytest.mark.chaos


def run_ranks(folder: Path, *mode: str) -> list[subprocess.CompletedProcess[str]]:
    """What became of rank 0 and rank 1."""
    job = write_job(folder / "run")
    arguments = [str(folder / "store"), str(job.folder), str(folder / "out"), *mode]
    processes = [
        subprocess.Popen(
            [sys.executable, slow_ranks.__file__, str(rank), *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, stderr=text)
        for process, text in zip(processes, errors, strict=True)
    ]


@pytest.mark.slow
def test_one_rank_may_take_longer_than_any_collective(tmp_path: Path) -> None:
    ends = run_ranks(tmp_path)
    assert [end.returncode for end in ends] == [0, 0], ends[0].stderr + ends[1].stderr
    answers = [json.loads((tmp_path / f"out.{rank}").read_text()) for rank in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["together"] == 2
    assert answers[0]["elapsed_s"] > 2 * slow_ranks.TIMEOUT_S


@pytest.mark.slow
def test_waiting_in_a_collective_would_have_killed_it(tmp_path: Path) -> None:
    first, second = run_ranks(tmp_path, "collective")
    assert first.returncode == 1
    assert "imed out" in first.stderr
    assert second.returncode == 3
    assert not (tmp_path / "out.0").exists()
