from __future__ import annotations

from tests.chaos.conftest import sandbox

__all__ = ["sandbox"]
