"""The warm launcher, asked as the supervisor and torchrun's children ask it; without torch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.supervise import tree
from orchestra.wire import lifeline
from orchestra.wire.heartbeat import pages_folder
from orchestra.wire.job import LAUNCHER, TAG
from tests.chaos.matrix import Saw
from tests.chaos.sandbox import PACKAGE, wait_for

WITHOUT_NEW_TAG = """
def _retag(tag):
    os.environ[TAG] = tag
"""


class Warm:
    """A launcher at work, and our end of its socket."""

    def __init__(self, root: Path, *, alter: str = "", **environment: str) -> None:
        self.root = root
        self.tag = self.new_tag(0)
        self.log = root / "agent.log"
        code = root / "code"
        train = code / "orchestra" / "train"
        train.mkdir(parents=True)
        for package in (train, train.parent):
            (package / "__init__.py").touch()
        (train.parent / "wire").symlink_to(PACKAGE / "wire")
        for name in ("launcher.py", "warm.py", "forked.py"):
            shutil.copy(PACKAGE / "train" / name, train)
        for name in ("agent.py", "rank.py"):
            shutil.copy(Path(__file__).parent / "warm_agent.py", train / name)
        with (train / "warm.py").open("a") as file:
            file.write(alter)
        self.control, theirs = socket.socketpair()
        self.control.settimeout(60.0)
        variables = {
            **os.environ,
            "PYTHONPATH": str(code),
            "PYTHONSAFEPATH": "1",  # else the checkout would be imported
            TAG: self.tag,
            **environment,
        }
        lifeline.announce(variables)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestra.train.launcher", str(root)],
                env=variables,
                stdin=theirs,
            )
        self._answers = self.control.makefile("rb")

    def new_tag(self, attempt: int) -> str:
        return f"test.{attempt:04d}.{os.urandom(8).hex()}"

    def ask(self, *arguments: str) -> tuple[int, str]:
        """A new agent's pid and tag."""
        tag = self.new_tag(1)
        request = {"arguments": arguments, "tag": tag, "log": str(self.log)}
        self.control.sendall(json.dumps(request).encode() + b"\n")
        return int(self.answer()["pid"]), tag

    def answer(self) -> dict[str, int]:
        answer: dict[str, int] = json.loads(self._answers.readline())
        return answer

    def told(self, name: str) -> dict[str, Any]:
        """What a stand-in wrote."""
        path = self.root / name
        wait_for(name, path.exists)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def close(self) -> None:
        self._answers.close()
        self.control.close()
        self.process.wait(60)
        shutil.rmtree(pages_folder(self.tag), ignore_errors=True)


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Warm]:
    made = Warm(tmp_path)
    yield made
    made.close()


def ask_for_rank(warm: Warm, *arguments: str) -> tuple[int, int, str]:
    """Pids of agent and stand-in, and their tag."""
    agent, tag = warm.ask("rank", str(warm.root / "agent"), *arguments)
    return agent, int(warm.told("agent")["standin"]), tag


def pids(tag: str) -> set[int]:
    return {process.pid for process in tree.tagged(tag)}


def rank_of(warm: Warm) -> dict[str, Any]:
    return warm.told("rank")


def test_agent_standin_and_rank_carry_the_tag_of_the_attempt(warm: Warm) -> None:
    agent, standin, tag = ask_for_rank(warm, "tell", str(warm.root / "rank"))
    rank = rank_of(warm)["pid"]
    assert pids(tag) == {agent, standin, rank}
    assert pids(warm.tag) == {warm.process.pid}


@pytest.mark.fault("control: no new tag")
def test_without_retag_a_sweep_would_miss_them(tmp_path: Path, saw: Saw) -> None:
    """Negative control."""
    warm = Warm(tmp_path, alter=WITHOUT_NEW_TAG)
    try:
        agent, standin, tag = ask_for_rank(warm, "tell", str(warm.root / "rank"))
        rank = rank_of(warm)["pid"]
        assert pids(tag) == {standin}
        assert pids(warm.tag) == {warm.process.pid, agent, rank}
        saw("agent and rank show the launcher's tag")
    finally:
        warm.close()


@pytest.mark.parametrize(
    ("what", "code"), [("exit", 0), ("exit", 7), ("signal", 9), ("signal", 11)]
)
def test_how_a_rank_ended_is_handed_through(warm: Warm, what: str, code: int) -> None:
    ask_for_rank(warm, what, str(code))
    assert warm.told("agent.end")["code"] == (-code if what == "signal" else code)


def test_an_exception_of_a_rank_is_its_end(warm: Warm) -> None:
    """An OSError too, which the launcher expects of a fork."""
    ask_for_rank(warm, "raise")
    assert warm.told("agent.end")["code"] == 1
    assert warm.log.read_text().splitlines()[-1] == "OSError: boom"


def test_a_standin_that_dies_while_it_asks_keeps_nobody_waiting(warm: Warm) -> None:
    pid, _ = warm.ask("sleep")
    path = pages_folder(warm.tag) / "launcher"
    with socket.socket(socket.AF_UNIX) as half:
        half.connect(str(path))
        half.sendall(b'{"arguments": [')  # the rest never comes
    os.kill(pid, signal.SIGKILL)
    assert warm.answer() == {"pid": pid, "code": 0, "signal": 9}


def test_how_an_agent_ended_is_told(warm: Warm) -> None:
    for what, number, code, signal_ in (("exit", "3", 3, 0), ("signal", "9", 0, 9)):
        pid, _ = warm.ask(what, number)
        assert warm.answer() == {"pid": pid, "code": code, "signal": signal_}


@pytest.mark.fault("SIGKILL of a stand-in")
def test_a_rank_dies_with_its_standin(warm: Warm, saw: Saw) -> None:
    """torchrun knows the stand-in alone: what it kills must be the rank."""
    agent, standin, tag = ask_for_rank(warm, "tell", str(warm.root / "rank"))
    rank = rank_of(warm)["pid"]
    assert rank in pids(tag)
    os.kill(standin, signal.SIGKILL)
    wait_for("the rank's death", lambda: pids(tag) == {agent})
    saw("its rank died with it, its siblings not")


@pytest.mark.fault("SIGKILL of the launcher")
def test_all_die_with_the_launcher(warm: Warm, saw: Saw) -> None:
    _, _, tag = ask_for_rank(warm, "tell", str(warm.root / "rank"))
    rank_of(warm)
    assert len(pids(tag)) == 3
    warm.process.kill()
    wait_for("the death of all", lambda: not pids(tag))
    saw("agent, stand-in and rank died with it")


def test_it_ends_with_its_supervisor_and_takes_all_along(warm: Warm) -> None:
    _, _, tag = ask_for_rank(warm, "tell", str(warm.root / "rank"))
    rank_of(warm)
    warm.close()
    assert warm.process.returncode == 0
    wait_for("the death of all", lambda: not pids(tag))


def test_beside_a_thread_agent_and_rank_are_started_cold(tmp_path: Path) -> None:
    """Forked beside one, they could find its locks held for ever."""
    warm = Warm(tmp_path, WITH_THREAD="1")
    try:
        agent, standin, tag = ask_for_rank(warm, "tell", str(warm.root / "rank"))
        assert "orchestra.train.agent" in Path(f"/proc/{agent}/cmdline").read_text()
        assert rank_of(warm)["pid"] == standin, "the stand-in became the rank"
        assert pids(tag) == {agent, standin}
    finally:
        warm.close()


def test_a_rank_has_the_environment_that_torchrun_gave(warm: Warm) -> None:
    _, standin, tag = ask_for_rank(warm, "tell", str(warm.root / "rank"))
    given = dict(
        entry.split("=", 1)
        for entry in Path(f"/proc/{standin}/environ").read_text().rstrip("\0").split("\0")
    )
    found = rank_of(warm)["environment"]
    assert (found["RANK"], found["LOCAL_RANK"], found[TAG]) == ("1", "1", tag)
    assert LAUNCHER in found
    parent = {lifeline.PARENT_PID: str(warm.process.pid)}
    assert found == {**given, **parent}


def test_no_two_of_them_draw_the_same(warm: Warm) -> None:
    draws = []
    for number in range(3):
        warm.ask("tell", str(warm.root / f"agent{number}"))
        draws += warm.told(f"agent{number}")["draws"]
    assert len(set(draws)) == 6


def test_nothing_of_the_launcher_is_open_in_a_rank(warm: Warm) -> None:
    """Nor in an agent: what they hold open would outlive the launcher and hide its end."""
    warm.ask("tell", str(warm.root / "alone"))
    ask_for_rank(warm, "tell", str(warm.root / "rank"))
    for name in ("alone", "rank"):
        opened = warm.told(name)["descriptors"]
        assert opened["0"] == os.devnull
        others = {fd: to for fd, to in opened.items() if int(fd) > 2}
        assert others == {}, name


def test_they_have_names_of_their_own(warm: Warm) -> None:
    agent, _, _ = ask_for_rank(warm, "tell", str(warm.root / "rank"))
    names = [
        Path(f"/proc/{pid}/comm").read_text().strip()
        for pid in (warm.process.pid, agent, rank_of(warm)["pid"])
    ]
    assert names == ["orch-launcher", "orch-agent", "orch-rank"]
