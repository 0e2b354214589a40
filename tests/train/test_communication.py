from __future__ import annotations

import json
from typing import Any

import pytest
from torch import nn

from orchestra.train.communication import exchange_of
from tests.train import exchange_ranks
from tests.train.exchange_ranks import LATE_S
from tests.train.together import run_together


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("exchange")
    run_together(exchange_ranks, 2, folder / "store", folder / "out")
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
