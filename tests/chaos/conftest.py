from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.real import RealSandbox
from tests.chaos.sandbox import Sandbox
from tests.gpu.conftest import nvml, nvml_library

__all__ = ["nvml", "nvml_library", "sandbox"]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path)
    yield sandbox
    sandbox.clean()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealSandbox]:
    sandbox = RealSandbox(tmp_path)
    yield sandbox
    sandbox.clean()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSandbox]:
    """For a run that all tests of a module look at."""
    sandbox = RealSandbox(tmp_path_factory.mktemp("real"))
    yield sandbox
    sandbox.clean()
