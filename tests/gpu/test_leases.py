"""A GPU has at most one holder, whoever races, and the kernel frees what the dead held."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.gpu.lease_file import FOLDER, machine_folder
from orchestra.gpu.leases import Leases
from orchestra.gpu.probe import Prober
from orchestra.wire.errors import ConflictError, NotFoundError
from tests.fakes.nvml import UUIDS, FakeNvml

HERE = Path("/workspace")

HOLD = (
    "import sys; from pathlib import Path; from orchestra.gpu.leases import Leases\n"
    "leases = Leases()\n"
    "print([d.uuid for d in leases.acquire(1, [], 'other123', Path('/ws'))][0], flush=True)\n"
    "sys.stdin.read()"
)


@pytest.fixture
def other(nvml: FakeNvml) -> subprocess.Popen[bytes]:
    """Another process that holds the first of two GPUs."""
    nvml.idle(2)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == UUIDS[0].encode()
    yield holder  # type: ignore[misc]
    holder.kill()
    holder.communicate()


def test_a_leased_device_is_passed_over(other: subprocess.Popen[bytes]) -> None:
    with Leases() as leases:
        assert [device.uuid for device in leases.acquire(1, [], "mine", HERE)] == [UUIDS[1]]


def test_the_refusal_names_run_and_user(other: subprocess.Popen[bytes]) -> None:
    with Leases() as leases:
        with pytest.raises(ConflictError, match="GPU 0: leased by run other123 of user"):
            leases.acquire(2, [], "mine", HERE)
        # All or none: the free one was given back.
        assert set(leases.holders()) == {UUIDS[0]}


def test_a_killed_holder_frees_its_lease(other: subprocess.Popen[bytes]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    with Leases() as leases:
        assert leases.holders() == {}
        assert len(leases.acquire(2, [], "mine", HERE)) == 2


def test_release_and_lock_file_stays(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.idle(1)
    for run in ("one", "two"):
        with Leases() as leases:
            leases.acquire(1, [], run, HERE)
            assert leases.holders()[UUIDS[0]].run_id == run
    assert (tmp_path / "leases" / f"{UUIDS[0]}.lock").exists()


def test_folder_is_the_first_home_that_is_open_to_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A held lock file in /tmp may fall to a cleaner."""
    monkeypatch.delenv(FOLDER, raising=False)
    lock, tmp = tmp_path / "lock", tmp_path / "tmp"
    for mode, home in ((0o1777, lock), (0o755, tmp), (0o777, tmp)):
        lock.mkdir(exist_ok=True)
        lock.chmod(mode)
        assert machine_folder((lock, tmp)) == home / "orchestra-leases"
    lock.rmdir()
    assert machine_folder((lock, tmp)) == tmp / "orchestra-leases"
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert machine_folder((lock, tmp)) == tmp_path


def test_foreign_process_and_used_memory_are_respected(nvml: FakeNvml) -> None:
    nvml.write(
        "gpu GPU-a 81920 3 0 X",
        "process 999 5",
        "gpu GPU-b 81920 9000 0 X",
        "gpu GPU-c 81920 3 0 X",
    )
    with Leases() as leases:
        with pytest.raises(ConflictError, match=r"GPU 0: .*pid 999.*GPU 1: .*8.8 GiB"):
            leases.acquire(3, [], "mine", HERE)
        assert [device.uuid for device in leases.acquire(1, [], "mine", HERE)] == ["GPU-c"]


def test_unknown_state_only_by_name(nvml: FakeNvml) -> None:
    nvml.write("gpu GPU-a 81920 3 0 X", "refuse processes")
    with Leases() as leases:
        with pytest.raises(ConflictError, match="unknown"):
            leases.acquire(1, [], "mine", HERE)
        assert len(leases.acquire(1, ["0"], "mine", HERE)) == 1


def test_exported_devices_limit_the_pool(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.idle(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with Leases() as leases:
        with pytest.raises(ConflictError, match="1 of 1"):
            leases.acquire(2, [], "mine", HERE)
        with pytest.raises(NotFoundError, match="usable ones: 2"):
            leases.acquire(1, ["0"], "mine", HERE)
        assert [device.index for device in leases.acquire(1, [], "mine", HERE)] == [2]


def test_a_hostile_note_is_only_text(
    nvml: FakeNvml, other: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    note = tmp_path / "leases" / f"{UUIDS[0]}.lock"
    for text in (
        "",
        "{",
        json.dumps({"run_id": "x" * 999, "user": 1, "pid": "1", "since": 0}),
        '{"run_id": "x", "user": "y", "pid": Infinity, "since": 0}',
        "[]",
        "[" * 9999,
    ):
        note.write_text(text)
        with Leases() as leases:
            assert len(leases.holders()[UUIDS[0]].run_id) <= 64


def test_a_note_without_workspace_is_read(
    nvml: FakeNvml, other: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Versions before this one wrote none."""
    note = tmp_path / "leases" / f"{UUIDS[0]}.lock"
    document = json.loads(note.read_text())
    del document["workspace"]
    note.write_text(json.dumps(document))
    holder = Leases().holders()[UUIDS[0]]
    assert (holder.run_id, holder.workspace) == ("other123", "")


def test_a_replaced_lock_file_is_not_a_second_lock(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.idle(1)
    path = tmp_path / "leases" / f"{UUIDS[0]}.lock"
    with Leases() as leases:
        leases.acquire(1, [], "mine", HERE)
        leases.release()
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Exception, match="cannot open the lease"):
            leases.acquire(1, [], "mine", HERE)


RACE = (
    "import sys; from pathlib import Path; from orchestra.gpu.leases import Leases\n"
    "from orchestra.wire.errors import ConflictError\n"
    "for line in sys.stdin:\n"
    "    leases = Leases()\n"
    "    try: won = len(leases.acquire(1, [], 'racer', Path('/ws')))\n"
    "    except ConflictError: won = 0\n"
    "    print(won, flush=True)\n"
    "    sys.stdin.readline()\n"  # hold until both have spoken
    "    leases.release(); print('released', flush=True)"
)


def _tell(racers: list[subprocess.Popen[str]], word: str) -> list[str]:
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(word + "\n")
        racer.stdin.flush()
    answers = []
    for racer in racers:
        assert racer.stdout is not None
        answers.append(racer.stdout.readline().strip())
    return answers


@pytest.mark.slow
def test_two_processes_race_for_one_gpu(nvml: FakeNvml) -> None:
    nvml.idle(1)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for _ in range(50):
            assert sorted(_tell(racers, "go")) == ["0", "1"]
            assert _tell(racers, "release") == ["released", "released"]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def test_leases_of_a_workspace_are_limited(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.idle(4)
    (tmp_path / "orchestra.toml").write_text('[gpus]\nlimit = 2\nids = ["1", "2", "3"]\n')
    with Leases() as first, Leases() as second:
        with pytest.raises(ConflictError, match="GPU 0: outside this workspace's pool"):
            first.acquire(1, ["0"], "one", tmp_path)
        assert [device.index for device in first.acquire(1, [], "one", tmp_path)] == [1]
        with pytest.raises(ConflictError, match=r"may hold 2 at once .* they hold 1, 2 more are"):
            second.acquire(2, [], "two", tmp_path)
        # Another workspace's leases do not count.
        assert [device.index for device in second.acquire(3, [], "two", HERE)] == [0, 2, 3]
        second.release()
        assert len(second.acquire(1, [], "two", tmp_path)) == 1


def test_linked_devices_are_leased_together(nvml: FakeNvml) -> None:
    gpus = [f"gpu GPU-{index} 81920 3 0 X" for index in range(4)]
    nvml.write(gpus[0], "link 2 nvlink", "link 1 sys", *gpus[1:])
    with Leases() as leases:
        assert [device.index for device in leases.acquire(2, [], "mine", HERE)] == [0, 2]


@pytest.fixture
def leftover(nvml: FakeNvml) -> Iterator[int]:
    """A process of a run whose supervisor is dead; it was given the first of two GPUs."""
    (given, _) = nvml.idle(2)
    tag = {"ORCHESTRA_RUN": "dead1", "ORCHESTRA_TAG": "dead1.1.beef", "CUDA_VISIBLE_DEVICES": given}
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env={**os.environ, **tag},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline()
    yield process.pid
    process.kill()
    process.communicate()


def test_a_device_is_refused_while_a_process_of_a_dead_run_has_it(
    nvml: FakeNvml, leftover: int
) -> None:
    """NVML does not show it: it has no context yet."""
    with Leases() as leases:
        with pytest.raises(
            ConflictError, match=rf"GPU 0: process of run dead1, .*no lease \(pid {leftover}\)"
        ):
            leases.acquire(2, ["0", "1"], "mine", HERE)
        assert [device.index for device in leases.acquire(1, [], "mine", HERE)] == [1]


def test_take_looks_for_such_a_process_itself(nvml: FakeNvml, leftover: int) -> None:
    """It may have been born after the caller's own look."""
    with Prober() as prober, Leases() as leases:
        devices = prober.read().devices
        with pytest.raises(ConflictError, match="process of run dead1"):
            leases.take(devices, prober, "mine", HERE, named=False)
        assert leases.holders() == {}


def test_a_process_that_nvml_shows_is_named_with_its_run(nvml: FakeNvml, leftover: int) -> None:
    nvml.write("gpu GPU-other 81920 3 0 X", f"process {leftover} 100")
    said = rf"process of run dead1, which holds no lease \(pid {leftover} python\S* of \w+\)"
    with Leases() as leases, pytest.raises(ConflictError, match=said):
        leases.acquire(1, [], "mine", HERE)


#: Becomes another user once all is imported and NVML is asked: that user may not reach this Python.
#: Its umask lets nobody else read what it makes.
OTHER_USER = """
import os, pwd, sys
from pathlib import Path
from orchestra.gpu.leases import Leases
from orchestra.gpu.probe import Prober
from orchestra.wire.errors import ConflictError
prober = Prober()
devices = prober.read().devices
other = pwd.getpwnam("nobody")
os.setgroups([]); os.setgid(other.pw_gid); os.setuid(other.pw_uid); os.umask(0o077)
for line in sys.stdin:
    with Leases() as leases:
        try:
            leases.take(devices, prober, "theirs", Path("/theirs"), named=False)
            print("granted", flush=True)
        except ConflictError as error:
            print(error, flush=True)
        sys.stdin.readline()
    print("released", flush=True)
"""


@pytest.fixture
def nobody(nvml: FakeNvml) -> Iterator[subprocess.Popen[str]]:
    """A process of user nobody that leases the one GPU at each odd line, and frees it at each even.

    The leases lie where that user may come: below /tmp, not below this test's folder.
    """
    if os.getuid() != 0:
        pytest.skip("a second user can be played by root only")
    nvml.idle(1)
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        Path(shared).chmod(0o1777)
        os.environ[FOLDER] = f"{shared}/leases"
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER_USER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        yield process
        process.kill()
        process.communicate()


@pytest.mark.parametrize("first", ["root", "nobody"])
def test_two_users_share_a_lock_file(nobody: subprocess.Popen[str], first: str) -> None:
    """Whoever made it: in a sticky folder the kernel refuses O_CREAT on another's file."""
    lock = Path(os.environ[FOLDER]) / f"{UUIDS[0]}.lock"
    with Leases() as leases:
        if first == "root":
            leases.acquire(1, [], "mine", HERE)
            leases.release()
        assert _tell([nobody], "acquire") == ["granted"]
        assert lock.owner() == first
        assert lock.stat().st_mode & 0o777 == 0o666
        assert lock.parent.stat().st_mode & 0o7777 == 0o1777
        with pytest.raises(ConflictError, match="leased by run theirs of user nobody"):
            leases.acquire(1, [], "mine", HERE)
        assert leases.holders()[UUIDS[0]].workspace == "/theirs"
        assert _tell([nobody], "release") == ["released"]
        leases.acquire(1, [], "mine", HERE)
        (said,) = _tell([nobody], "acquire")
        assert "leased by run mine of user root" in said
