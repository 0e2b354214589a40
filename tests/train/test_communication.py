from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from orchestra.train.communication import exchange_of
from tests.train import exchange_ranks
from tests.train.exchange_ranks import LATE_S

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("exchange")
    files = [str(folder / "store"), str(folder / "out")]
    processes = [
        subprocess.Popen(
            [sys.executable, exchange_ranks.__file__, str(rank), *files],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
        for rank in (0, 1)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    return [json.loads((folder / f"out.{rank}").read_text()) for rank in (0, 1)]


def test_waiting_for_a_late_rank_is_exposed(ranks: list[dict[str, Any]]) -> None:
    # What is missing of LATE_S is rank 0's own backward pass, of a single layer.
    assert ranks[0]["late_s"] > LATE_S / 2
    assert ranks[0]["on_time_s"] > 0  # sending takes time too
    assert ranks[0]["late_s"] > ranks[0]["on_time_s"]


def test_the_late_rank_itself_waits_less(ranks: list[dict[str, Any]]) -> None:
    """Rank 1's pause lies before its forward pass and is no exchange."""
    assert ranks[1]["late_s"] < ranks[0]["late_s"]


def test_measuring_changes_no_bit(ranks: list[dict[str, Any]]) -> None:
    assert all(rank["weights"] == rank["unmeasured"] for rank in ranks)


def test_one_rank_waits_for_nobody() -> None:
    assert exchange_of(nn.Linear(1, 1)).exposed_s() == 0.0
