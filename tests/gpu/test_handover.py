"""A lease passes from the dispatcher to the supervisor without a moment in which it is free."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra.gpu.leases import Leases
from orchestra.gpu.probe import Prober
from orchestra.wire.errors import ConflictError, OrchestraError
from tests.fakes.nvml import UUIDS, FakeNvml

HERE = Path("/workspace")

#: Adopts what it is given, lists what a child of it inherits, then holds until stdin ends.
ADOPT = """
import json, subprocess, sys
from pathlib import Path
from orchestra.gpu.leases import Leases
leases = Leases.adopt(json.loads(sys.argv[1]), "run1", Path("/workspace"))
subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False)
print("end", flush=True)
sys.stdin.read()
"""

#: Takes both devices, starts the adopter with them, and dies.
GIVE = """
import json, os, subprocess, sys
from pathlib import Path
from orchestra.gpu.leases import Leases
leases = Leases()
leases.acquire(2, [], "run1", Path("/workspace"))
fds = leases.hand_over()
command = [sys.executable, "-c", sys.argv[1], json.dumps(fds)]
print(subprocess.Popen(command, pass_fds=fds.values()).pid, flush=True)
os._exit(0)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python programs whose stdin and stdout are pipes; ends them after the test."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *words: str, **options: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-c", code, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(child)
        return child  # type: ignore[no-any-return]

    yield run
    for child in started:
        child.kill()
        child.wait()
        child.stdin.close()  # type: ignore[union-attr]
        child.stdout.close()  # type: ignore[union-attr]


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def listing(child: subprocess.Popen[str]) -> str:
    """What the child says before "end"."""
    assert child.stdout is not None
    return "".join(iter(child.stdout.readline, "end\n"))


def test_the_lease_outlives_its_giver_and_ends_with_its_holder(
    nvml: FakeNvml, start: Start
) -> None:
    nvml.idle(2)
    giver = start(GIVE, ADOPT)
    adopter = int(line(giver))
    inherited = listing(giver)
    assert giver.wait() == 0
    holders = Leases().holders()
    assert {uuid: holder.pid for uuid, holder in holders.items()} == {
        UUIDS[0]: adopter,
        UUIDS[1]: adopter,
    }
    assert holders[UUIDS[0]].run_id == "run1"
    assert holders[UUIDS[0]].workspace == "/workspace"
    with Leases() as leases, pytest.raises(ConflictError, match="leased by run run1"):
        leases.acquire(1, [], "mine", HERE)
    assert "/proc/" in inherited and ".lock" not in inherited
    assert giver.stdin is not None and giver.stdout is not None
    giver.stdin.close()  # the adopter reads it
    assert giver.stdout.read() == ""  # and is gone
    with Leases() as leases:
        assert len(leases.acquire(2, [], "mine", HERE)) == 2


def test_release_after_the_handover_frees_nothing(nvml: FakeNvml, start: Start) -> None:
    nvml.idle(1)
    with Leases() as leases:
        leases.acquire(1, [], "run1", HERE)
        fds = leases.hand_over()
        given = f'{{"{UUIDS[0]}": {fds[UUIDS[0]]}}}'
        adopter = start(ADOPT, given, pass_fds=tuple(fds.values()))
        leases.release()
        listing(adopter)
    assert Leases().holders()[UUIDS[0]].pid == adopter.pid
    adopter.kill()
    adopter.wait()
    assert Leases().holders() == {}


def test_release_without_a_child_frees_all(nvml: FakeNvml) -> None:
    nvml.idle(1)
    with Leases() as leases:
        leases.acquire(1, [], "run1", HERE)
        leases.hand_over()
    assert Leases().holders() == {}


def test_a_descriptor_of_another_file_is_refused(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.idle(2)
    with Leases() as leases, (tmp_path / "other").open("w") as other:
        leases.acquire(2, [], "run1", HERE)
        fds = leases.hand_over()
        for wrong in (other.fileno(), fds[UUIDS[1]], 999):
            with pytest.raises(OrchestraError, match=f"descriptor {wrong} is not the lease"):
                Leases.adopt({UUIDS[0]: wrong}, "run1", HERE)


def test_an_unlocked_descriptor_of_the_right_file_is_refused(
    nvml: FakeNvml, tmp_path: Path
) -> None:
    nvml.idle(1)
    with Leases() as leases:
        leases.acquire(1, [], "run1", HERE)
        fd = os.open(tmp_path / "leases" / f"{UUIDS[0]}.lock", os.O_RDONLY)
        with pytest.raises(OrchestraError, match="is not the lease"):
            Leases.adopt({UUIDS[0]: fd}, "run1", HERE)
        os.close(fd)


def test_take_is_all_or_none(nvml: FakeNvml) -> None:
    nvml.idle(3)
    with Prober() as prober, Leases() as mine, Leases() as theirs:
        first, second, third = prober.read().devices
        theirs.take([second], prober, "them", HERE, named=False)
        with pytest.raises(ConflictError, match=r"1 of 2 can be had; GPU 1: leased by run them"):
            mine.take([first, second], prober, "mine", HERE, named=False)
        assert set(mine.holders()) == {UUIDS[1]}
        mine.take([third, first], prober, "mine", HERE, named=False)
        assert set(mine.hand_over()) == {UUIDS[0], UUIDS[2]}


def test_all_holders_in_the_way_are_named(nvml: FakeNvml) -> None:
    nvml.idle(3)
    with Prober() as prober, Leases() as mine, Leases() as one, Leases() as other:
        first, second, third = devices = prober.read().devices
        one.take([second], prober, "one", HERE, named=False)
        other.take([third], prober, "other", HERE, named=False)
        with pytest.raises(ConflictError) as caught:
            mine.take(devices, prober, "mine", HERE, named=False)
        said = str(caught.value)
        assert "1 of 3 can be had" in said and f"GPU {first.index}" not in said
        assert "GPU 1: leased by run one" in said and "GPU 2: leased by run other" in said


def test_take_looks_again_once_the_locks_are_won(nvml: FakeNvml) -> None:
    nvml.idle(2)
    with Prober() as prober, Leases() as leases:
        devices = prober.read().devices
        nvml.write(
            f"gpu {UUIDS[0]} 81920 3 0 X", f"gpu {UUIDS[1]} 81920 700 0 X", "process 999 700"
        )
        with pytest.raises(ConflictError, match=r"GPU 1: .*pid 999"):
            leases.take(devices, prober, "mine", HERE, named=False)
        nvml.write(f"gpu {UUIDS[0]} 81920 3 0 X")
        with pytest.raises(ConflictError, match="GPU 1: it vanished"):
            leases.take(devices, prober, "mine", HERE, named=False)
        nvml.write("broken")
        with pytest.raises(ConflictError, match="GPU 0: NVML: Driver Not Loaded"):
            leases.take(devices, prober, "mine", HERE, named=True)
        assert leases.holders() == {}
