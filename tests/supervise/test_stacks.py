"""Stacks of real processes that hang in every way, asked for as the supervisor does it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestra.supervise import stacks
from orchestra.supervise.signs import read_signs
from orchestra.supervise.stacks import dump, tidy
from orchestra.wire.folders import AttemptFolder
from orchestra.wire.heartbeat import Beat, Phase, read_beats
from orchestra.wire.stacks import STACKS_SIGNAL
from tests.chaos.sandbox import wait_for

REPOSITORY = Path(__file__).parents[2]
RANK = """
import sys, threading, time
from collections import deque
from itertools import repeat
from pathlib import Path
from orchestra.wire.heartbeat import Heartbeat, Phase
from orchestra.wire.stacks import on_request

def hanging_here():
    HOW

with on_request(Path(sys.argv[1])):
    pulse = Heartbeat(Path(sys.argv[2]), int(sys.argv[3]))
    pulse.beat(3, Phase.BACKWARD)
    hanging_here()
"""
SLEEPS = "time.sleep(600)"
HOLDS_GIL = "deque(repeat(0), maxlen=0)  # one call into C that never ends"
IN_A_THREAD = "threading.Thread(target=time.sleep, args=(600,)).start(); " + SLEEPS
ENDS = "pass"
DEAF = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); " + SLEEPS
PATIENCE_S = 60.0

Start = Callable[..., Beat]


class Ranks:
    def __init__(self, root: Path) -> None:
        self.folder = AttemptFolder(root / "0001")
        self.folder.logs.mkdir(parents=True)
        self.pages = root / "base" / "tag"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, how: str = SLEEPS) -> Beat:
        """The page of a new rank, which hangs by now."""
        rank = len(self.processes)
        command = [sys.executable, "-c", RANK.replace("HOW", how)]
        self.processes.append(
            subprocess.Popen(
                [*command, str(self.folder.rank_stacks(rank)), str(self.pages), str(rank)],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        )

        def beating() -> list[Beat]:
            beats = read_beats(self.pages)
            return [b for b in beats if b.rank == rank and b.phase is Phase.BACKWARD]

        return wait_for("its heart", beating)[0]  # type: ignore[no-any-return]

    def stacks(self, rank: int) -> str:
        return self.folder.rank_stacks(rank).read_text()


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    made = Ranks(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", [SLEEPS, HOLDS_GIL])
def test_stacks_tell_where_it_hangs(ranks: Ranks, how: str) -> None:
    beat = ranks.start(how)
    said = dump([beat], ranks.folder, PATIENCE_S)
    assert said == f"stacks of rank 0 are in {ranks.folder.logs}"
    assert "in hanging_here" in ranks.stacks(0)
    assert ranks.processes[0].poll() is None, "it is for others to kill it"


def test_stacks_of_all_threads(ranks: Ranks) -> None:
    beat = ranks.start(IN_A_THREAD)
    threads = Path(f"/proc/{beat.pid}/task")
    wait_for("its thread", lambda: len(list(threads.iterdir())) == 2)
    dump([beat], ranks.folder, PATIENCE_S)
    assert ranks.stacks(0).count("most recent call first") == 2


def test_a_stopped_rank_is_continued_to_tell(ranks: Ranks) -> None:
    beat = ranks.start()
    os.kill(beat.pid, signal.SIGSTOP)
    log = ranks.folder.rank_log(0)
    wait_for("it to be stopped", lambda: read_signs(beat, log).state == "T")
    dump([beat], ranks.folder, PATIENCE_S)
    assert "in hanging_here" in ranks.stacks(0)


def test_a_pause_in_the_middle_of_a_report_is_waited_for(
    ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a rank that waits for the disk, or for its turn on a busy machine."""
    path, clock = ranks.folder.rank_stacks(0), [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        path.write_text("Thread" if clock[0] < 0.25 else "Thread most recent call first")

    monkeypatch.setattr(stacks, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    stacks._wait_until_written({path: 0}, PATIENCE_S)
    assert ranks.stacks(0).endswith("first")
    assert clock[0] < 1.0


def test_one_that_says_nothing_costs_a_bounded_wait(ranks: Ranks) -> None:
    beats = [ranks.start(), ranks.start(DEAF)]
    wait_for("it to be deaf", lambda: _blocked(beats[1].pid))
    started = time.monotonic()
    said = dump(beats, ranks.folder, 2.0)
    assert time.monotonic() - started < PATIENCE_S
    assert said == f"stacks of rank 0 are in {ranks.folder.logs}; rank 1 wrote no stacks"
    assert "in hanging_here" in ranks.stacks(0)


def test_who_does_not_expect_the_signal_does_not_get_it(ranks: Ranks) -> None:
    """It would die of it: another program, or a rank in its very first moments."""
    other = subprocess.Popen(["/bin/sleep", "600"])
    ranks.processes.append(other)
    beat = ranks.start()
    ticks = int(Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19])
    page_of_other = replace(beat, rank=0, pid=other.pid, start_ticks=ticks)
    reused_pid = replace(beat, start_ticks=beat.start_ticks - 1)
    gone = replace(beat, pid=2**22 - 1)
    for each in (page_of_other, reused_pid, gone):
        assert dump([each], ranks.folder, 0.3) == f"rank {each.rank} wrote no stacks"
    assert other.poll() is None
    assert ranks.stacks(1) == ""


def test_a_segmentation_fault_leaves_its_stack(tmp_path: Path) -> None:
    code = RANK.replace("HOW", "import ctypes; ctypes.string_at(0)")
    died = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "stacks"), str(tmp_path / "base/tag"), "0"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGSEGV, "it dies of it all the same"
    assert b"in hanging_here" in died.stderr


def test_empty_files_do_not_stay(ranks: Ranks) -> None:
    ranks.start(ENDS)
    ranks.processes[0].wait(PATIENCE_S)
    assert not ranks.folder.rank_stacks(0).exists(), "it has nothing to tell at a good end"
    beats = [ranks.start(), ranks.start()]
    dump(beats[:1], ranks.folder, PATIENCE_S)
    for process in ranks.processes:
        process.kill()
    tidy(ranks.folder)
    assert [path.name for path in ranks.folder.logs.iterdir()] == ["rank1.stacks"]


def test_signs_of_life(ranks: Ranks) -> None:
    busy, idle = ranks.start(HOLDS_GIL), ranks.start()
    log = ranks.folder.rank_log(0)
    before = read_signs(busy, log)
    log.write_text("three")
    wait_for("CPU time", lambda: read_signs(busy, log).cpu_s > before.cpu_s + 0.2)
    assert (before.log_bytes, read_signs(busy, log).log_bytes) == (0, 5)
    assert read_signs(idle, log).state == "S"
    assert read_signs(replace(idle, start_ticks=1), log).state == ""
    assert read_signs(replace(idle, pid=2**22 - 1), log).state == ""


WORKERS = """
    import os
    for how in ("read", "spin"):
        if os.fork() == 0:
            if how == "spin":
                deque(repeat(0), maxlen=0)
            while True:
                open(__import__("sys").executable, "rb").read(2**16)
                time.sleep(0.01)
    time.sleep(600)
"""


def test_loader_workers_show_that_a_rank_gets_on(ranks: Ranks) -> None:
    """While it waits for their batches its own CPU stands still."""
    waiting, idle = ranks.start(WORKERS), ranks.start()
    log = ranks.folder.rank_log(0)
    wait_for("its workers", lambda: len(_children(waiting.pid)) == 2)
    try:
        before, before_idle = read_signs(waiting, log), read_signs(idle, log)
        wait_for("reads", lambda: read_signs(waiting, log).moved_bytes > before.moved_bytes)
        wait_for("CPU time", lambda: read_signs(waiting, log).cpu_s > before.cpu_s + 0.2)
        assert read_signs(waiting, log).state == "S"
        assert read_signs(idle, log) == before_idle, "the children of others don't count"
    finally:
        for pid in _children(waiting.pid):
            os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def _blocked(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk:"))
    return bool(mask >> (STACKS_SIGNAL - 1) & 1)
