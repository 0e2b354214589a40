"""The real pynvml against a stand-in library: readings, refusals, hangs, no driver."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestra.gpu.probe import GpuProcess, Prober, probe
from tests.fakes.nvml import FakeNvml

MIB = 2**20


def test_reads_every_field(nvml: FakeNvml) -> None:
    nvml.write(
        "gpu GPU-a 81920 1024 37 NVIDIA H100 80GB", "process 4242 900", "gpu GPU-b 100 3 0 T4"
    )
    reading = probe()
    assert reading.error is None
    first, second = reading.devices
    assert (first.index, first.uuid, first.name) == (0, "GPU-a", "NVIDIA H100 80GB")
    assert (first.memory_total, first.memory_used) == (81920 * MIB, 1024 * MIB)
    assert first.utilisation == 37
    assert first.processes == (GpuProcess(4242, 900 * MIB),)
    assert second.processes == ()


@pytest.mark.parametrize("field", ["memory", "utilisation", "processes", "name"])
def test_one_refused_field_spoils_nothing_else(nvml: FakeNvml, field: str) -> None:
    nvml.write("gpu GPU-a 81920 3 0 H100", f"refuse {field}")
    (device,) = probe().devices
    values = {
        "memory": device.memory_used,
        "utilisation": device.utilisation,
        "processes": device.processes,
        "name": device.name,
    }
    assert [name for name, value in values.items() if value is None] == [field]


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
