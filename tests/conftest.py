"""What every test gets: the environment it changes in this process is put back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.chaos.matrix import pytest_runtest_setup, pytest_terminal_summary, saw

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary", "saw"]

# A slow machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is fetched and hashed here, in this process and in others, stays out of the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def _same_environment_afterwards() -> Iterator[None]:
    """Programs called in-process announce themselves to their children by an environment variable;
    ranks started by a later test would see the wrong parent and end at once."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


# A module's own fixtures run outside of its tests, so that both scopes are needed.
same_environment_after_a_module = pytest.fixture(autouse=True, scope="module")(
    _same_environment_afterwards
)
same_environment_after_a_test = pytest.fixture(autouse=True)(_same_environment_afterwards)
