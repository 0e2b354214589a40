"""One look at the machine: states, the workspace's pool, what its runs hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.gpu import snapshot
from orchestra.gpu.leases import Leases
from orchestra.gpu.probe import Prober
from orchestra.gpu.snapshot import Snapshot
from orchestra.gpu.status import GpuState
from orchestra.wire.errors import UsageError
from tests.fakes.nvml import FakeNvml


def look(workspace: Path | None) -> Snapshot:
    with Prober() as prober:
        return snapshot.read(workspace, prober)


def test_leases_count_for_their_own_workspace_only(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.idle(4)
    (tmp_path / "orchestra.toml").write_text("[gpus]\nlimit = 3\n")
    with Leases() as mine, Leases() as theirs:
        mine.acquire(2, [], "mine", tmp_path)
        theirs.acquire(1, [], "theirs", tmp_path / "elsewhere")
        now = look(tmp_path)
    assert (now.held_here, now.limit) == (2, 3)
    assert [gpu.status.state for gpu in now.gpus] == [GpuState.LEASED] * 3 + [GpuState.FREE]
    assert [gpu.holder and gpu.holder.run_id for gpu in now.gpus] == ["mine"] * 2 + ["theirs", None]


def test_without_a_workspace_nothing_is_held_here_or_outside(nvml: FakeNvml) -> None:
    nvml.idle(1)
    now = look(None)
    assert (now.held_here, now.limit, now.gpus[0].inside) == (0, None, True)


def test_what_is_outside_of_the_pool_stays_so_while_it_is_leased(
    nvml: FakeNvml, tmp_path: Path
) -> None:
    first, _, third = nvml.idle(3)
    (tmp_path / "orchestra.toml").write_text(f'[gpus]\nids = ["{third}"]\n')
    with Leases() as theirs:
        theirs.acquire(1, [first], "theirs", tmp_path / "elsewhere")
        now = look(tmp_path)
    assert [gpu.inside for gpu in now.gpus] == [False, False, True]
    assert [gpu.status.state for gpu in now.gpus] == [
        GpuState.LEASED, GpuState.OUTSIDE, GpuState.FREE
    ]  # fmt: skip


def test_a_symlink_to_the_workspace_is_the_workspace(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.idle(1)
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    with Leases() as mine:
        mine.acquire(1, [], "mine", link)
        assert look(real).held_here == 1


def test_a_device_without_uuid_belongs_to_nobodys_pool(nvml: FakeNvml) -> None:
    nvml.write("gpu GPU-a 9 3 0 X", "refuse uuid")
    (gpu,) = look(None).gpus
    assert (gpu.inside, gpu.status.state) == (False, GpuState.OUTSIDE)
    assert "hides its UUID" in gpu.status.reason


def test_a_missing_driver_is_in_order_and_a_sick_one_is_not(nvml: FakeNvml) -> None:
    nvml.write("broken")
    now = look(None)
    assert (now.gpus, now.error, now.is_broken) == ((), "NVML: Driver Not Loaded", True)
    nvml.idle(0)
    assert not look(None).is_broken


def test_wrong_settings_are_a_usage_error(nvml: FakeNvml, tmp_path: Path) -> None:
    (tmp_path / "orchestra.toml").write_text("[gpus]\nlimit = -1\n")
    with pytest.raises(UsageError, match=r"gpus\.limit"):
        look(tmp_path)
