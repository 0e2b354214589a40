"""The probe task is found where the ranks find theirs."""

from __future__ import annotations

import pytest

from orchestra.wire.job import CODE
from tests.exactness.launching import WORKSPACE


@pytest.fixture(autouse=True)
def code_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CODE, str(WORKSPACE))
