"""The real pynvml against a stand-in library: readings, refusals, hangs, no driver."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from orchestra.gpu.probe import GpuProcess, Prober, probe
from orchestra.gpu.processes import Owner
from tests.fakes.nvml import FakeNvml

MIB = 2**20
NO_PID = 2**22 + 1  # above the kernel's largest


def test_reads_every_field(nvml: FakeNvml) -> None:
    nvml.write(
        "gpu GPU-a 81920 1024 38 NVIDIA H100 80GB",
        f"process {NO_PID} 900",
        "power 310 700",
        "temperature 61",
        "gpu GPU-b 100 3 0 T4",
        "mig",
    )
    reading = probe()
    assert reading.error is None
    first, second = reading.devices
    assert (first.index, first.uuid, first.name) == (0, "GPU-a", "NVIDIA H100 80GB")
    assert (first.memory_total, first.memory_used) == (81920 * MIB, 1024 * MIB)
    assert (first.utilisation, first.memory_utilisation) == (38, 19)
    assert (first.power_w, first.power_limit_w, first.temperature_c) == (310.0, 700.0, 61)
    assert first.processes == (GpuProcess(NO_PID, 900 * MIB),)
    assert second.processes == ()
    assert (first.mig, second.mig) == (False, True)


@pytest.mark.parametrize(
    ("field", "lost"),
    [
        ("memory", {"memory_total", "memory_used"}),
        ("utilisation", {"utilisation", "memory_utilisation"}),
        ("processes", {"processes"}),
        ("name", {"name"}),
        ("power", {"power_w", "power_limit_w"}),
        ("temperature", {"temperature_c"}),
        ("mig", {"mig"}),
        ("graphics", set()),
    ],
)
def test_one_refused_field_spoils_nothing_else(nvml: FakeNvml, field: str, lost: set[str]) -> None:
    nvml.write("gpu GPU-a 81920 3 0 H100", f"refuse {field}")
    (device,) = probe().devices
    assert {name for name, value in asdict(device).items() if value is None} == lost


def test_a_device_without_uuid_can_be_told(nvml: FakeNvml) -> None:
    nvml.write("gpu GPU-a 81920 3 0 H100", "gpu GPU-b 81920 3 0 H100", "refuse uuid")
    first, second = probe().devices
    assert (first.has_uuid, second.has_uuid, second.uuid) == (True, False, "unknown-1")


def test_who_computes_is_told_from_who_draws(nvml: FakeNvml) -> None:
    me, parent = os.getpid(), os.getppid()
    nvml.write(
        "gpu GPU-a 81920 3 0 H100",
        f"process {me} 10",
        f"graphics {me} 10",  # does both
        f"graphics {parent} 5",
    )
    (device,) = probe().devices
    assert device.processes is not None
    assert [(item.pid, item.graphics) for item in device.processes] == [(me, False), (parent, True)]
    assert [item.pid for item in device.computing] == [me]


def test_processes_have_name_user_and_run(nvml: FakeNvml) -> None:
    child = subprocess.Popen(
        ["sleep", "60"], env={**os.environ, "ORCHESTRA_RUN": "run7"}, stdin=subprocess.DEVNULL
    )
    try:
        nvml.write("gpu GPU-a 81920 3 0 H100", f"process {child.pid} 1", f"process {NO_PID} 1")
        (device,) = probe().devices
    finally:
        child.kill()
        child.wait()
    assert device.processes is not None
    user = pwd.getpwuid(os.getuid()).pw_name
    assert [item.owner for item in device.processes] == [Owner("sleep", user, "run7"), Owner()]


def test_links_are_told_by_the_shortest_way(nvml: FakeNvml) -> None:
    nvml.write(
        "gpu GPU-a 9 3 0 X", "link 1 nvlink", "link 2 pix", "link 3 sys",
        "gpu GPU-b 9 3 0 X", "link 2 phb",
        "gpu GPU-c 9 3 0 X",
        "gpu GPU-d 9 3 0 X", "refuse links",
    )  # fmt: skip
    links = {(link.first, link.second): link.kind for link in probe().links}
    assert links == {
        ("GPU-a", "GPU-b"): "nvlink",
        ("GPU-a", "GPU-c"): "pix",
        ("GPU-b", "GPU-c"): "phb",
    }


def test_a_driver_that_prints_spoils_no_answer(nvml: FakeNvml) -> None:
    nvml.write("gpu GPU-a 9 3 0 X", "say")
    reading = probe()
    assert (reading.error, len(reading.devices)) == (None, 1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("echo nonsense", "no answer that can be read"),
        ("echo '{}'", "no answer that can be read"),
        ('echo \'{"error": null, "devices": [1], "links": []}\'', "no answer that can be read"),
        ("printf half", "died"),
        ("printf half; exec sleep 60", "did not answer"),
        ("exec cat /dev/zero", "did not answer"),
    ],
)
def test_a_child_that_talks_nonsense_is_replaced(nvml: FakeNvml, answer: str, error: str) -> None:
    nvml.idle(1)
    with Prober() as prober:
        prober._child = subprocess.Popen(
            ["sh", "-c", f"read line; {answer}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert error in (prober.read(deadline_s=1.0).error or "")
        assert len(prober.read().devices) == 1


def test_a_driver_that_begins_to_hang_is_left_and_tried_again(nvml: FakeNvml) -> None:
    nvml.idle(1)
    with Prober() as prober:
        assert prober.read().error is None
        nvml.write("hang")
        for _ in range(2):
            assert "did not answer" in (prober.read(deadline_s=0.3).error or "")
        nvml.idle(2)
        assert len(prober.read().devices) == 2


def test_a_hanging_driver_is_left_at_the_deadline(nvml: FakeNvml) -> None:
    nvml.write("hang")
    with Prober() as prober:
        reading = prober.read(deadline_s=0.3)
        assert reading.devices == ()
        assert "did not answer" in (reading.error or "")
        # The hung child is gone and the next reading has a fresh one.
        nvml.idle(1)
        assert len(prober.read().devices) == 1


def test_one_child_answers_again_and_again(nvml: FakeNvml) -> None:
    nvml.idle(1)
    with Prober() as prober:
        assert len(prober.read().devices) == 1
        child = prober._child
        nvml.idle(3)
        assert len(prober.read().devices) == 3
        assert prober._child is child
    assert child is not None and child.returncode is not None


def test_broken_driver_is_a_sentence(nvml: FakeNvml) -> None:
    nvml.write("broken")
    assert probe().error == "NVML: Driver Not Loaded"


def test_no_driver_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if any(Path(folder, "libnvidia-ml.so.1").exists() for folder in _library_folders()):
        pytest.skip("this machine has an NVIDIA driver")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert "no NVIDIA driver" in (probe().error or "")


def test_a_killed_child_is_an_error_not_a_crash(nvml: FakeNvml) -> None:
    nvml.idle(1)
    with Prober() as prober:
        prober.read()
        assert prober._child is not None
        os.kill(prober._child.pid, 9)
        prober._child.wait()
        deadline = time.monotonic() + 5
        assert "died" in (prober.read().error or "")
        assert time.monotonic() < deadline
        assert prober.read().error is None


def _library_folders() -> list[str]:
    return ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/local/nvidia/lib64"]


def test_child_is_not_taken_from_the_working_folder(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workspace may be a checkout of another orchestra."""
    nvml.idle(1)
    there = tmp_path / "orchestra"
    there.mkdir()
    (there / "__init__.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert probe().error is None
