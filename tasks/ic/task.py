"""Intent classification: the classification of tasklib with three slots."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.tasklib.classification import Classification
from orchestra.tasks import Direction

from .prepare import SLOTS


class Task(Classification):
    """See README.md."""

    slots = SLOTS
    metrics: Mapping[str, Direction] = {
        "accuracy": "max",
        **{f"{slot}_accuracy": "max" for slot in SLOTS},
    }
