"""`python -m tests.screenshots`: draw the README's pictures of the monitor, of the demo workspace.

The clock stands still and nothing is random, so that a picture changes when the monitor does.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from textual.pilot import Pilot

from orchestra.gpu.lease_file import FOLDER
from orchestra.workspace import Workspace
from tests.fakes.nvml import FakeNvml, build
from tests.tui.demo import NOW_S, demo, demo_gpus
from tests.tui.monitor import Watched, monitor

HERE = Path(__file__).parent
SIZE = (120, 36)
_PATIENCE_S = 60.0
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)

_Scene = Callable[[Watched, Pilot[None]], Awaitable[None]]


async def runs(app: Watched, pilot: Pilot[None]) -> None:
    """All runs, and the curves of three that are pinned."""
    await _shown(app, pilot, "fbank-baseline")
    if "FAKE_NVML" in os.environ:
        await _shown(app, pilot, "GPU")
    await pilot.press(*["down"] * 4, "p", "down", "p", "down", "p")
    for value in ("3e-4 0.", "1e-4 0.", "base 0."):
        await _shown(app, pilot, value)


async def detail(app: Watched, pilot: Pilot[None]) -> None:
    """All about the one that was restarted."""
    await runs(app, pilot)
    await pilot.press("enter")
    await _shown(app, pilot, "Attempts")


SCENES: dict[str, _Scene] = {"runs": runs, "detail": detail}


def main() -> None:
    for name, scene in SCENES.items():
        with _lab() as workspace:
            (HERE / f"{name}.svg").write_text(asyncio.run(draw(workspace, scene)))
            print(f"{HERE / name}.svg")


async def draw(workspace: Workspace, scene: _Scene, size: tuple[int, int] = SIZE) -> str:
    """The SVG of what a scene comes to."""
    async with monitor(workspace, size) as (app, pilot):
        await scene(app, pilot)
        # Without fonts from elsewhere: a picture loads nothing.
        return _FONTS.sub("", app.export_screenshot(title="orchestra tui"))


@contextmanager
def _lab() -> Iterator[Workspace]:
    """The demo on a machine of eight GPUs (none, where no C compiler can make them up)."""
    home = Path("/tmp/lab")  # is to be read in the picture
    home.mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home)
        nvml = _nvml(home)
        environment = {"XDG_STATE_HOME": str(home / "state"), FOLDER: str(home / "leases")}
        stack.enter_context(
            patch.dict(os.environ, environment | (nvml.environment if nvml else {}))
        )
        stack.enter_context(patch("socket.gethostname", lambda: "gpubox"))
        made = stack.enter_context(demo(home / "speech"))
        if nvml:
            stack.enter_context(demo_gpus(nvml, made.workspace))
        stack.enter_context(patch("time.time", lambda: NOW_S))
        yield made.workspace


def _nvml(home: Path) -> FakeNvml | None:
    try:
        return FakeNvml(build(home), home / "gpus.txt")
    except pytest.skip.Exception:
        return None


async def _shown(app: Watched, pilot: Pilot[None], text: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while text not in app.text:
        assert time.monotonic() < deadline, f"{text!r} was never drawn:\n{app.text}"
        await pilot.pause(0.05)


if __name__ == "__main__":
    main()
