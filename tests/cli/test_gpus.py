"""`orchestra gpus` as a process, against fake GPUs that are edited while it watches."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra.gpu.leases import Leases
from tests.cli.conftest import Cli
from tests.fakes.nvml import FakeNvml

H100 = "gpu GPU-5f3a9c21-aaaa 81920 3 0 NVIDIA H100"


@pytest.fixture
def gpus(cli: Cli, nvml: FakeNvml) -> FakeNvml:
    """The fake GPUs, for processes that `cli` starts as well."""
    cli.environment |= {**nvml.environment, "ORCHESTRA_LEASES": os.environ["ORCHESTRA_LEASES"]}
    cli.environment.pop("CUDA_VISIBLE_DEVICES", None)
    return nvml


def test_the_table_tells_everything_once(cli: Cli, gpus: FakeNvml) -> None:
    gpus.write(
        H100, "power 71 700", "temperature 33", "link 1 nvlink", "link 2 sys",
        "gpu GPU-b 81920 40960 97 NVIDIA H100", f"process {os.getpid()} 40000",
        "gpu GPU-c 81920 3 0 T4", "refuse processes",
    )  # fmt: skip
    header, first, second, third = cli.ok("gpus").splitlines()
    assert header.split() == [
        "GPU",
        "UUID",
        "NAME",
        "MEMORY",
        "LOAD",
        "POWER",
        "HEAT",
        "NVLINK",
        "STATE",
        "PROCESSES",
    ]
    assert re.split(r"  +", first.strip()) == [
        "0", "GPU-5f3a9c21", "NVIDIA H100", "3.0 MiB / 80.0 GiB", "0%", "71 / 700 W", "33 C", "1",
        "free", "-",
    ]  # fmt: skip
    assert f"foreign process (pid {os.getpid()} " in second and "39.1 GiB" in second
    assert "unknown: the driver does not tell its processes" in third


def test_json_has_whole_ids_leases_and_links(cli: Cli, gpus: FakeNvml, tmp_path: Path) -> None:
    gpus.write(H100, "link 1 pix", f"graphics {os.getpid()} 30", "gpu GPU-b 81920 3 0 T4")
    with Leases() as leases:
        leases.acquire(1, ["0"], "run1", tmp_path)
        first, second = cli.json("gpus")
    assert (first["uuid"], first["state"], first["run"]) == (
        "GPU-5f3a9c21-aaaa", "leased", "run1"
    )  # fmt: skip
    assert first["reason"].startswith("leased by run run1 of user ")
    assert first["workspace"] == str(tmp_path)
    (process,) = first["processes"]
    assert (process["pid"], process["graphics"]) == (os.getpid(), True)
    assert (process["run"], process["memory_bytes"]) == ("run1", 30 * 2**20)
    assert (first["links"], second["links"]) == ({"1": "pix"}, {"0": "pix"})
    assert (second["state"], second["run"], second["processes"]) == ("free", None, [])


def test_it_needs_no_workspace_but_knows_its_pool(cli: Cli, gpus: FakeNvml) -> None:
    gpus.write(H100, "gpu GPU-b 81920 3 0 T4")
    (cli.root / "orchestra.toml").write_text('[gpus]\nids = ["1"]\nlimit = 1\n')
    inside = cli.ok("gpus")
    assert "outside this workspace's pool" in inside.splitlines()[1]
    assert inside.endswith("this workspace's runs hold 0 of at most 1\n")
    elsewhere = cli("gpus", cwd=cli.root.parent)
    assert elsewhere.returncode == 0
    assert "pool" not in elsewhere.stdout and elsewhere.stdout.count("free") == 2
    assert cli("gpus", "--workspace", "/nowhere").returncode == 3


def test_no_gpu_is_in_order_and_a_sick_driver_is_not(cli: Cli, gpus: FakeNvml) -> None:
    gpus.idle(0)
    assert cli.ok("gpus") == "this machine has no GPUs\n"
    assert cli.json("gpus") == []
    gpus.write("broken")
    done = cli("gpus", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert "NVML: Driver Not Loaded" in done.stderr


def test_a_machine_without_driver(cli: Cli) -> None:
    cli.environment["LD_LIBRARY_PATH"] = os.fspath(cli.root)
    said = cli.ok("gpus")
    if "no NVIDIA driver" not in said:
        pytest.skip("this machine has an NVIDIA driver")
    assert said.count("\n") == 1


Watch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def watch(cli: Cli) -> Iterator[Watch]:
    started: list[subprocess.Popen[str]] = []

    def start(**options: object) -> subprocess.Popen[str]:
        started.append(cli.start("gpus", "--watch", stderr=subprocess.PIPE, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_until(stream: object, wanted: str) -> str:
    """Lines up to the one that has `wanted`."""
    read = ""
    for line in stream:  # type: ignore[attr-defined]
        read += line
        if wanted in line:
            return read
    raise AssertionError(f"no {wanted!r} in {read!r}")


def children(pid: int) -> list[int]:
    status = {entry: entry / "status" for entry in Path("/proc").glob("[0-9]*")}
    found = []
    for entry, path in status.items():
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{pid}\n" in path.read_text():
                found.append(int(entry.name))
    return found


def test_watch_follows_what_happens_with_one_child(gpus: FakeNvml, watch: Watch) -> None:
    gpus.write(H100)
    process = watch(stdout=subprocess.PIPE)
    first = read_until(process.stdout, "free")
    assert re.match(r"\d\d:\d\d:\d\d\nGPU ", first) and "\x1b" not in first
    (child,) = children(process.pid)
    gpus.write(H100, f"process {os.getpid()} 9")
    read_until(process.stdout, "foreign process")
    assert children(process.pid) == [child]
    gpus.write("broken")
    read_until(process.stdout, "Driver Not Loaded")
    gpus.write(H100)
    read_until(process.stdout, "free")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not Path(f"/proc/{child}").exists()
    assert process.stderr is not None and "Traceback" not in process.stderr.read()


def test_watch_redraws_a_terminal(gpus: FakeNvml, watch: Watch) -> None:
    gpus.write(H100)
    ours, theirs = pty.openpty()
    process = watch(stdout=theirs)
    os.close(theirs)
    with os.fdopen(ours, "r") as screen:
        read_until(screen, "free")
        gpus.write(H100, f"process {os.getpid()} 9")
        assert "\x1b[H\x1b[2J" in read_until(screen, "foreign process")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_the_host_and_who_had_a_gpu(cli: Cli, gpus: FakeNvml, tmp_path: Path) -> None:
    gpus.write(H100)
    document = cli.json("gpus", "--host", "--hours", "2")
    assert set(document) == {"gpus", "host", "history"}
    assert document["history"] == {} and document["gpus"][0]["uuid"] == "GPU-5f3a9c21-aaaa"
    host = document["host"]
    assert host["cpus"] >= 1 and 0 <= host["cpu_percent"] <= 100
    assert 0 < host["memory_used_bytes"] < host["memory_total_bytes"]
    lines = cli.ok("gpus", "--host", "--hours", "2").splitlines()
    assert lines[0].startswith("host: ") and " busy, load " in lines[0]
    assert lines[-1] == "no run of this workspace had a GPU in that time"
