from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestra.schedule import host
from orchestra.schedule.host import HostSampler


def test_the_machine_as_it_is() -> None:
    now = HostSampler().read()
    assert now.cpus == os.cpu_count() and now.cpu_percent is None
    assert now.memory_used_bytes is not None and now.memory_total_bytes is not None
    assert 0 < now.memory_used_bytes < now.memory_total_bytes
    assert now.to_json()["memory_used_bytes"] == now.memory_used_bytes


def test_busy_is_what_came_since_the_reading_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(host, "_STAT", stat)
    sampler = HostSampler()
    stat.write_text("cpu 100 0 100 800 0 0 0 0 50 0\ncpu0 1 2 3\n")
    assert sampler.read().cpu_percent is None
    # 30 busy, 50 idle, 20 waiting for the disk; guest time is user time counted before.
    stat.write_text("cpu 120 0 110 850 20 0 0 0 60 0\n")
    assert sampler.read().cpu_percent == pytest.approx(30.0)
    assert sampler.read().cpu_percent is None, "no time has gone by"


def test_what_the_kernel_hides_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_STAT", tmp_path / "none")
    monkeypatch.setattr(host, "_MEMORY", tmp_path / "none")
    now = HostSampler().read()
    assert (now.cpu_percent, now.memory_total_bytes, now.memory_used_bytes) == (None, None, None)
