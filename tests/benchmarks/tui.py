"""The monitor in a real pseudo-terminal: first row, CPU, keys, memory, with many runs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestra.workspace import Workspace
from tests.benchmarks.procfs import cpu_s, memory
from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import ORCHESTRA
from tests.tui.demo import many
from tests.tui.terminal import Terminal

SIZE = (120, 36)
LIVE = 50
FEW, MANY = 1_000, 100_000
_STARTS = 7
_WATCHED_S = 20.0
_KEYS = 60
_PATIENCE_S = 60.0
SPEED = 25.0
_WARM_S = 1800  # of the monitor's life
MINIMAL = """
from textual.app import App
from textual.widgets import Static

class Minimal(App):
    def compose(self):
        yield Static("asr-minimal")

Minimal().run()
"""


class Raw(Terminal):
    """Keeps what is written and draws nothing: that would take longer than what is measured."""

    def __init__(self, argv: Sequence[str], state: Path) -> None:
        super().__init__(argv, size=SIZE, environment={"XDG_STATE_HOME": str(state)})
        self._stream = _Nothing()

    def until(self, text: bytes, since: int = 0) -> None:
        """Until it was written, after the first `since` bytes."""
        deadline = time.monotonic() + _PATIENCE_S
        while text not in self.sent[since:]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{text!r} was not drawn within {_PATIENCE_S:g} s")
            self._read(0.05)

    def let_run(self, seconds: float) -> None:
        """Take what it writes, so that it need not wait."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)
            self.sent = self.sent[-4096:]


class _Nothing:
    def feed(self, data: bytes) -> None:
        """No screen."""


def measure() -> list[Row]:
    """With 1,000 rows and with 100,000; memory over two hours of the monitor's life."""
    with TemporaryDirectory(prefix="orchestra-benchmark-") as name:
        home = Path(name)
        few, more = many(home / "few", FEW), many(home / "many", MANY)
        minimal_ms, few_ms, more_ms = _first_rows_ms(home, (few, more))
        how = f"first visible row, {SIZE[0]}x{SIZE[1]}, median of {_STARTS} starts in turn"
        rows = [
            Row("a minimal Textual app", f"{minimal_ms:.0f} ms", "", how),
            Row(f"`orchestra tui`, {FEW:,} runs", f"{few_ms:.0f} ms", "<= 300 ms", how),
            Row("... of the minimal app's", f"{few_ms / minimal_ms:.2f}", "", how),
            Row(f"... with {MANY:,} runs", f"{more_ms:.0f} ms", "no slower", how),
        ]
        for workspace, count in ((few, FEW), (more, MANY)):
            rows += _at_work(home, workspace, count)
        return [*rows, *_growth(home, few, hours=2)]


def measure_day() -> list[Row]:
    """Memory over a whole day of the monitor's life."""
    with TemporaryDirectory(prefix="orchestra-benchmark-") as name:
        return _growth(Path(name), many(Path(name) / "few", FEW), hours=24)


def _first_rows_ms(home: Path, workspaces: tuple[Workspace, Workspace]) -> list[float]:
    """In turn, so that what else the machine does meets all alike."""
    commands = [([sys.executable, "-c", MINIMAL], b"asr-minimal")]
    for workspace, count in zip(workspaces, (FEW, MANY), strict=True):
        commands.append((_monitor(workspace), f"asr-{count - 1:06d}".encode()))
    times: list[list[float]] = [[] for _ in commands]
    for repeat in range(_STARTS + 1):
        for (command, row), found in zip(commands, times, strict=True):
            started = time.perf_counter()
            with Raw(command, home / "state") as terminal:
                terminal.until(row)
                if repeat:  # the first one warms the cache
                    found.append((time.perf_counter() - started) * 1000)
    return [statistics.median(found) for found in times]


def _at_work(home: Path, workspace: Workspace, count: int) -> list[Row]:
    """CPU, then keys, while runs tick once a second."""
    with _ticking(workspace, 1.0), Raw(_monitor(workspace), home / "state") as terminal:
        newest = count - 1
        terminal.until(f"asr-{newest:06d}".encode())
        terminal.let_run(5.0)
        before_s = cpu_s(terminal.pid)
        terminal.let_run(_WATCHED_S)
        share = (cpu_s(terminal.pid) - before_s) / _WATCHED_S
        delays_ms = sorted(_key_ms(terminal, newest - 1 - number) for number in range(20))
        for _ in range(_KEYS // 20 - 1):
            terminal.press(*["up"] * 20)
            terminal.let_run(1.0)
            delays_ms += [_key_ms(terminal, newest - 1 - number) for number in range(20)]
    p95_ms = sorted(delays_ms)[int(len(delays_ms) * 0.95)]
    how = f"{count:,} rows, {LIVE} of them tick once a second"
    return [
        Row(f"CPU of the monitor, {count:,} runs", f"{share:.1%} of a core", "<= 5 %", how),
        Row("... key to repaint (p95)", f"{p95_ms:.0f} ms", "<= 50 ms", f"{how}; cursor down"),
    ]


def _key_ms(terminal: Raw, number: int) -> float:
    """Until the row that the cursor comes to is drawn anew."""
    terminal.let_run(0.13)
    since = len(terminal.sent)
    started = time.perf_counter()
    terminal.send("\x1b[B")
    terminal.until(f"asr-{number:06d}".encode(), since)
    return (time.perf_counter() - started) * 1000


def _growth(home: Path, workspace: Workspace, *, hours: float) -> list[Row]:
    """What it holds after so many hours of its life, all intervals being SPEED times shorter."""
    told = home / "seconds"
    program = [sys.executable, "-m", "tests.benchmarks.tui_fast", str(workspace.root)]
    with (
        _ticking(workspace, SPEED),
        Raw([*program, str(SPEED), str(told)], home / "state") as terminal,
    ):
        terminal.until(b"asr-")
        terminal.let_run(_WARM_S / SPEED)
        warm_mb = memory(terminal.pid).resident_mb
        terminal.let_run(hours * 3600 / SPEED)
        grown_mb = memory(terminal.pid).resident_mb - warm_mb
        terminal.press("q")
        terminal.exit_code()
    lived_h = (int(told.read_text()) - _WARM_S) / 3600
    how = (
        f"{lived_h:.1f} h of its life after {_WARM_S // 60} min, every interval {SPEED:g} times "
        f"shorter, {LIVE} runs that tick as much faster"
    )
    what = "memory growth of the monitor"
    return [Row(what, f"{grown_mb / lived_h:.2f} MB/h (at {warm_mb:.0f} MB)", "<= 1 MB/h", how)]


def _monitor(workspace: Workspace) -> list[str]:
    return [ORCHESTRA, "--workspace", str(workspace.root), "tui"]


@contextmanager
def _ticking(workspace: Workspace, rate: float) -> Iterator[None]:
    """The newest runs work, in another process."""
    program = [sys.executable, "-m", "tests.benchmarks.tui_writer", str(workspace.root)]
    writer = subprocess.Popen(
        [*program, str(LIVE), str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None and writer.stdin is not None
    try:
        if writer.stdout.readline() != b"ready\n":
            raise RuntimeError("the runs did not start")
        yield
    finally:
        writer.stdin.close()
        writer.wait()
        writer.stdout.close()
