"""Config of the task that breaks: the example's, and a list of faults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from orchestra.config.schema import Table
from orchestra.tasks import find_task

_Example = find_task("example", Path("/nowhere")).config_model()


class Fault(Table):
    """What one rank does to itself in one attempt; see faults.py."""

    attempt: int
    rank: int
    how: str
    where: str = "forward"
    step: int = 0
    """How many steps are done by then."""


class Config(_Example):  # type: ignore[misc, valid-type]
    """See task.py."""

    kind: Literal["broken"] = "broken"
    faults: tuple[Fault, ...] = ()
    predict_s: float = 0.0
    """Pause in each batch that is predicted."""
    score_s: float = 0.0
    """Pause before a split is scored."""
    fsync_s: float = 0.0
    """How long the disk takes for what it is told to keep."""
