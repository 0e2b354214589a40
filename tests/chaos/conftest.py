from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.sandbox import Sandbox
from tests.gpu.conftest import nvml, nvml_library

__all__ = ["nvml", "nvml_library", "sandbox"]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path)
    yield sandbox
    sandbox.clean()
