from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.workspace import Workspace, init_workspace
from tests.chaos.conftest import sandbox
from tests.gpu.conftest import nvml, nvml_library

__all__ = ["nvml", "nvml_library", "sandbox"]


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Layouts of a test are its own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty one."""
    return init_workspace(tmp_path / "workspace")
