"""Builds tests/fakes/nvml.c once and lets a test edit the GPUs that the real pynvml sees."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml.c")
UUIDS = [f"GPU-{os.getpid():05x}-{index}" for index in range(64)]
"""Of this process alone: ranks of other tests, found in procfs, use other devices."""


def build(folder: Path) -> Path:
    """The folder that holds the library; skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): the stand-in for NVML can't be built")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(SOURCE)],
        check=True,
    )
    return folder


@dataclass
class FakeNvml:
    """The machine's GPUs as one small text file."""

    library: Path
    state: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see these GPUs."""
        return {"LD_LIBRARY_PATH": os.fspath(self.library), "FAKE_NVML": os.fspath(self.state)}

    def write(self, *lines: str) -> None:
        """Replace the state; a reader sees the old or the new one."""
        fresh = self.state.with_suffix(".new")
        fresh.write_text("".join(line + "\n" for line in lines))
        fresh.replace(self.state)

    def idle(self, count: int) -> list[str]:
        """`count` idle GPUs; returns their UUIDs."""
        uuids = UUIDS[:count]
        self.write(*(f"gpu {uuid} 81920 3 0 Fake H100" for uuid in uuids))
        return uuids
