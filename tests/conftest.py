"""What every test gets: nothing of the user's environment; what it changes in it is put back."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before torch is loaded. With more, the threads of two test processes on two cores wait for each
# other, spinning: small models took ten times as long.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

from orchestra.provenance.git_environment import FOREIGN
from tests.chaos.matrix import pytest_runtest_setup, pytest_terminal_summary, saw

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary", "saw"]

# A slow machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


#: What a terminal, a shell's start file, a cluster or a git hook may have said; programs print and
#: do other things by it.
_SAID_ELSEWHERE = (
    *("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TMUX", "CUDA_VISIBLE_DEVICES"),
    *("ORCHESTRA_GLYPHS", "ORCHESTRA_LEASES", "ORCHESTRA_OFFLINE", "ORCHESTRA_RUNS"),
    *("ORCHESTRA_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"),
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", *FOREIGN),
    # Every program that is started would compile all of ours again.
    *("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"),
)


@pytest.fixture(autouse=True, scope="session")
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that the user has set for other programs holds here, in this process and in others,
    and what is fetched, hashed and remembered here stays out of the user's folders."""
    for name in _SAID_ELSEWHERE:
        os.environ.pop(name, None)
    for name in ("CACHE", "CONFIG", "STATE"):
        os.environ[f"XDG_{name}_HOME"] = str(tmp_path_factory.mktemp(name.lower()))
    os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


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
