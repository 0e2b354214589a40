"""A task that keeps the contract, to break one thing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestra.check.subject import Subject
from orchestra.testing import subject_of

SMALL = ("task.train_utterances=12", "task.other_utterances=7", "train.max_steps=4")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The example task, which keeps the contract."""
    return subject_of("example", Path("/nowhere"), tmp_path_factory.mktemp("none"), sets=SMALL)


@pytest.fixture
def example(sound: Subject) -> Any:
    return sound.task_class
