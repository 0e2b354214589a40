"""What every test gets: the environment it changes in this process is put back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def same_environment_afterwards() -> Iterator[None]:
    """Programs called in-process announce themselves to their children by an environment variable;
    ranks started by a later test would see the wrong parent and end at once."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
