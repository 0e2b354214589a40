"""Real processes, found and killed by the value of their tag."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.supervise import tree
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import JOB, RUN, TAG, WORKSPACE

Start = Callable[..., subprocess.Popen[bytes]]
PATIENCE_S = 60.0
FORKS_FOR_EVER = "import os, time\nwhile os.fork() == 0:\n time.sleep(0.03)\n"


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


@pytest.fixture
def tag() -> str:
    return f"run.1.{os.urandom(8).hex()}"


@pytest.fixture
def start(tag: str) -> Iterator[Start]:
    processes = []

    def start(*command: str, tag: str = tag) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command or ("/bin/sleep", "600"), env={TAG: tag})
        processes.append(process)
        deadline = time.monotonic() + PATIENCE_S
        wanted = f"{TAG}={tag}".encode()
        while process.poll() is None and wanted not in environment(process.pid):  # still in exec
            assert time.monotonic() < deadline
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_sweep_kills_all_of_a_tag_and_nothing_else(start: Start, tag: str) -> None:
    mine = [start(), start()]
    others = [start(tag=tag + "x"), start(tag=tag[:-1]), start(tag="")]
    assert {process.pid for process in tree.tagged(tag)} == {process.pid for process in mine}
    assert tree.sweep(tag, deadline_s=PATIENCE_S).killed == 2
    assert [process.wait(PATIENCE_S) for process in mine] == [-9, -9]
    assert all(process.poll() is None for process in others)


def test_spared_pids_live(start: Start, tag: str) -> None:
    spared, other = start(), start()
    tree.sweep(tag, deadline_s=PATIENCE_S, spare=(spared.pid,))
    assert other.wait(PATIENCE_S) == -9
    assert spared.poll() is None


def test_sweep_catches_up_with_forks(start: Start, tag: str) -> None:
    """Each process forks and ends: one scan alone would often miss the newest child."""
    start(sys.executable, "-S", "-E", "-c", FORKS_FOR_EVER)
    result = tree.sweep(tag, deadline_s=PATIENCE_S)
    assert result.leftovers == ()
    assert tree.tagged(tag) == []


def test_reused_pid_is_not_killed(start: Start, tag: str) -> None:
    """An identity whose start does not match names a process that is gone."""
    process = start()
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    earlier = replace(identity, start_ticks=identity.start_ticks - 1)
    assert not tree.kill(earlier, tag)
    assert not tree.kill(identity, tag + "x")
    assert process.poll() is None
    assert tree.kill(identity, tag)
    assert process.wait(PATIENCE_S) == -9
    assert not tree.kill(identity, tag)


def test_what_survives_is_described(
    start: Start, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start()
    monkeypatch.setattr(tree, "kill", lambda process, tags: False)  # as if in state D
    result = tree.sweep(tag, deadline_s=0.05)
    assert result.killed == 0
    (leftover,) = result.leftovers
    assert leftover.startswith(f"sleep (pid {process.pid}, state S")


def test_several_tags_are_swept_at_once(start: Start, tag: str) -> None:
    """An attempt's own and its launcher's; an empty one is no tag at all."""
    both = [start(), start(tag=f"{tag}.launcher")]
    untagged = start(tag="")
    tags = {tag, f"{tag}.launcher", ""}
    assert {process.pid for process in tree.tagged(tags)} == {process.pid for process in both}
    assert tree.sweep(tags, deadline_s=PATIENCE_S).killed == 2
    assert [process.wait(PATIENCE_S) for process in both] == [-9, -9]
    assert untagged.poll() is None


def test_a_scan_tells_what_a_process_belongs_to(tag: str) -> None:
    environment = {TAG: tag, RUN: "r", JOB: "/runs/r", WORKSPACE: "/w\udcff"}
    process = subprocess.Popen(["/bin/sleep", "600"], env=environment)
    deadline = time.monotonic() + PATIENCE_S
    while not (found := [item for item in tree.scan() if item.tag == tag]):
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    (item,) = found
    assert item == tree.Tagged(item.process, tag, "r", "/runs/r", "/w\udcff")
    assert item.process.pid == process.pid


TITLED = """
import setproctitle, sys
setproctitle.setproctitle("a title that is longer than the command line, and the environment " * 9)
print("titled", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("spared", [True, False])
def test_setproctitle_keeps_the_tag_only_if_told_so(tag: str, spared: bool) -> None:
    """Every attempt gets SPT_NOENV (see Launch.environment). Without: the negative control."""
    environment = {**os.environ, TAG: tag, **({"SPT_NOENV": "1"} if spared else {})}
    process = subprocess.Popen(
        [sys.executable, "-c", TITLED],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "titled\n"
    assert (tree.tagged(tag) != []) == spared
    assert tree.sweep(tag, deadline_s=PATIENCE_S).killed == spared
    process.communicate()
    assert process.returncode == (-9 if spared else 0)
