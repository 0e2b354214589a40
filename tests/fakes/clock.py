"""A wall clock that a test sets for the processes that it starts; see clock.c."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")


@dataclass(frozen=True)
class FakeClock:
    """The clock of processes that have `environment`."""

    library: Path
    offset: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": os.fspath(self.library), "CLOCK_OFFSET": os.fspath(self.offset)}

    def jump(self, to_s: int) -> None:
        """Set it to so many seconds after the machine's."""
        temporary = self.offset.with_suffix(".new")
        temporary.write_text(str(to_s))
        temporary.rename(self.offset)


def make_clock(folder: Path) -> FakeClock:
    """Right at first; without a C compiler the test is skipped."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): the clock can't be built")
    library = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl"], check=True)
    clock = FakeClock(library, folder / "clock-offset")
    clock.jump(0)
    return clock
