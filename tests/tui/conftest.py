from __future__ import annotations

from tests.chaos.conftest import sandbox
from tests.gpu.conftest import nvml, nvml_library

__all__ = ["nvml", "nvml_library", "sandbox"]
