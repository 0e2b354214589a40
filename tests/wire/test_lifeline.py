"""The death chain: who arms it dies with the parent that was announced, and with no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from orchestra.wire.lifeline import PARENT_PID, announce
from tests.chaos.sandbox import wait_for

REPOSITORY = Path(__file__).parents[2]
CHILD = """
import sys, time
from orchestra.wire import lifeline
lifeline.die_with_parent()
print("armed", flush=True)
time.sleep(600)
"""
PARENT = f"""
import os, subprocess, sys, time
from orchestra.wire import lifeline
lifeline.announce(os.environ)
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def start(code: str, **variables: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != PARENT_PID}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(REPOSITORY), **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_child_dies_with_its_parent() -> None:
    parent = start(PARENT)
    child = int(first_line(parent))
    end(parent)
    wait_for("the child's death", lambda: not Path(f"/proc/{child}/exe").exists())


def test_a_parent_that_died_before_the_child_armed_is_noticed() -> None:
    """Arming alone leaves a race: the new parent would live for ever."""
    orphan = start(CHILD, **{PARENT_PID: "1"})
    assert first_line(orphan) == ""
    assert orphan.wait(60) == 1


def test_started_by_hand_it_arms_nothing() -> None:
    child = start(CHILD)
    assert first_line(child) == "armed"
    end(child)


def test_control_the_signal_follows_the_thread_of_the_parent() -> None:
    """Why children are started from the main thread: this parent lives on."""
    variables: dict[str, str] = {}
    announce(variables)
    started: list[subprocess.Popen[str]] = []

    def from_a_thread() -> None:
        started.append(start(CHILD, **variables))
        assert first_line(started[0]) == "armed"

    thread = threading.Thread(target=from_a_thread)
    thread.start()
    thread.join()
    assert started[0].wait(60) == -signal.SIGKILL
    started[0].communicate()
