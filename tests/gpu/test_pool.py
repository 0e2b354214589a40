"""Which devices a command may use."""

from __future__ import annotations

import pytest

from orchestra.gpu.pool import MEMORY_FLOOR, taken_because, visible, wanted
from orchestra.gpu.probe import Device, GpuProcess
from orchestra.wire.errors import NotFoundError, UsageError


def device(
    index: int,
    *,
    used: int | None = 0,
    processes: tuple[GpuProcess, ...] | None = (),
) -> Device:
    return Device(index, f"GPU-{index}{index}{index}", "X", 80 * 2**30, used, 0, processes)


ALL = [device(index) for index in range(4)]


@pytest.mark.parametrize(
    ("exported", "left"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("2,0", [2, 0]),
        ("GPU-111,GPU-33", [1, 3]),
        ("1,nonsense,2", [1]),
        ("-1", []),
    ],
)
def test_cuda_visible_devices_limits_the_pool(exported: str | None, left: list[int]) -> None:
    assert [item.index for item in visible(ALL, exported)] == left


def test_named_devices_keep_their_order() -> None:
    assert [item.index for item in wanted(ALL, ["3", "GPU-000"])] == [3, 0]


def test_wrong_names_are_refused() -> None:
    with pytest.raises(NotFoundError, match="0, 1, 2, 3"):
        wanted(ALL, ["7"])
    with pytest.raises(UsageError, match="twice"):
        wanted(ALL, ["1", "GPU-111"])


def test_idle_is_free_and_users_are_respected() -> None:
    assert taken_because(device(0), named=False) is None
    foreign = device(0, processes=(GpuProcess(77, 10),))
    assert "77" in (taken_because(foreign, named=False) or "")
    assert taken_because(foreign, named=True) is not None
    assert "GiB" in (taken_because(device(0, used=MEMORY_FLOOR + 1), named=True) or "")


def test_unknown_is_taken_unless_named() -> None:
    for unknown in (device(0, processes=None), device(0, used=None)):
        assert "unknown" in (taken_because(unknown, named=False) or "")
        assert taken_because(unknown, named=True) is None
