"""The probe task is found where the ranks find theirs."""

from __future__ import annotations

import pytest

from orchestra.wire.job import CODE
from tests.exactness.launching import WORKSPACE
from tests.upstreams.conftest import save_model

__all__ = ["code_folder", "save_model"]


@pytest.fixture(autouse=True)
def code_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CODE, str(WORKSPACE))
