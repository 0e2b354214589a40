"""Interrupted == uninterrupted with what else a step, a checkpoint or the end depends on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestra.wire.job import Result
from tests.exactness.conftest import CELL, Straight
from tests.exactness.launching import (
    Interruption,
    Kill,
    consumed,
    final_state,
    interrupted,
    predicted,
    write_job,
)

pytestmark = [pytest.mark.slow, pytest.mark.exactness]

RANKS = 3
FROZEN = [{"parameters": f"head.{part}", "until_step": 6} for part in ("inner", "norm")]
UNFREEZING = {"optim": {"freeze": FROZEN, "ema_decay": 0.8}}
# The second validation is no better by so much: the run ends at step 8.
STOPPING = {"train": {"eval_every": 4, "stopping": {"patience": 1, "min_delta": 100.0}}}
LOSS_SCALE = {"task": {"loss_factor": 5000.0}, "train": {"precision": "fp16"}}
REGULARISED = {"regularise": {"label_smoothing": 0.1, "r_drop": 0.5, "vat": 0.5}}
ADAFACTOR = {"optim": {"kind": "adafactor"}, "schedule": {"kind": "cosine"}}

# Name, tables, the checkpoint that the run resumes from, steps until the end.
CELLS: list[tuple[str, dict[str, Any], int, int]] = [
    ("average, before the unfreezing", UNFREEZING, 4, 12),
    ("average, at the unfreezing", UNFREEZING, 6, 12),
    ("average, after the unfreezing", UNFREEZING, 8, 12),
    ("early stopping", STOPPING, 6, 8),
    ("loss scale, while it falls", LOSS_SCALE, 2, 12),
    ("label smoothing, R-Drop, VAT", REGULARISED, 4, 12),
    ("Adafactor", ADAFACTOR, 4, 12),
]


def sharing(tables: dict[str, Any]) -> pytest.MarkDecorator:
    """Tests of one process share the uninterrupted run."""
    return pytest.mark.xdist_group(f"features {sorted(tables)}")


@pytest.mark.parametrize(
    ("name", "tables", "saved", "steps"),
    [pytest.param(*cell, id=cell[0], marks=sharing(cell[1])) for cell in CELLS],
)
def test_interrupted_is_uninterrupted(
    straight: Straight,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    name: str,
    tables: dict[str, Any],
    saved: int,
    steps: int,
) -> None:
    record_property(CELL, f"ranks {RANKS}  {name}")
    tables = {**tables, "checkpoint": {"every": 2}}
    whole = straight(RANKS, **tables)
    kill = Kill(RANKS - 1, step=saved, batch=1, once_saved=saved)
    job = write_job(tmp_path / "run", **tables)
    interrupted(job, RANKS, Interruption(saved, kill))
    assert Result.read(job.attempt(2)) == Result.read(whole.attempt(1))
    assert consumed(job) == consumed(whole)
    assert final_state(job, steps) == final_state(whole, steps)
    assert predicted(job) == predicted(whole)


@sharing(LOSS_SCALE)
def test_the_loss_scale_fell_after_the_interruption(straight: Straight) -> None:
    """Else its cell above proves nothing."""
    whole = straight(RANKS, **LOSS_SCALE, checkpoint={"every": 2})
    assert final_state(whole)["state.json"]["progress"]["overflows"] > 2
