"""Wait statuses have one owner. In processes of their own: whoever is a subreaper stays one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
START = """
import os, signal, subprocess, sys, time
from pathlib import Path
from orchestra.supervise.reaper import ExitStatus, Reaper

reaper = Reaper()

def start(*argv):
    null = os.open(os.devnull, os.O_RDONLY)
    return reaper.start(["/bin/sh", "-c", *argv], dict(os.environ), Path(os.devnull), stdin=null)

def status(pid):
    while reaper.status(pid) is None:
        reaper.reap()
        time.sleep(0.01)
    return reaper.status(pid)
"""


def run(code: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_how_a_child_ended() -> None:
    run("""
assert status(start("exit 3")) == ExitStatus(3, 0)
assert status(start("kill -KILL $$")) == ExitStatus(0, signal.SIGKILL)
assert status(start("exit 0")) == ExitStatus(0, 0)
""")


def test_control_a_wait_beside_the_reaper_reads_a_killed_child_as_a_success() -> None:
    """Why nothing else in the supervisor may wait."""
    run("""
child = subprocess.Popen(["/bin/sleep", "600"])
child.kill()
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
reaper.reap()
assert child.wait() == 0
""")


def test_orphans_of_the_whole_tree_are_reaped(tmp_path: Path) -> None:
    code = """
told = Path(sys.argv[1]) / "pid"
status(start(f"sleep 0.2 & echo $! > {told}"))
orphan = int(told.read_text())
assert f"PPid:\\t{os.getpid()}\\n" in Path(f"/proc/{orphan}/status").read_text()
while Path(f"/proc/{orphan}").exists():
    reaper.reap()
    time.sleep(0.01)
"""
    run(code, tmp_path)


def test_a_child_has_the_usual_signals() -> None:
    run("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
assert status(start("kill -TERM $$")) == ExitStatus(0, signal.SIGTERM)
""")
