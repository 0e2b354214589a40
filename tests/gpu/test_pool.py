"""Which devices a command may use."""

from __future__ import annotations

import pytest

from orchestra.gpu.pool import limited, over_limit, visible, wanted
from orchestra.gpu.probe import Device
from orchestra.settings import WorkspaceSettings
from orchestra.wire.errors import NotFoundError, UsageError

ALL = [Device(index, f"GPU-{index}{index}{index}") for index in range(4)]


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


def test_a_workspace_is_limited_to_its_devices() -> None:
    settings = WorkspaceSettings(gpu_ids=("GPU-333", "1", "9"))  # 9: another machine's
    assert [item.index for item in limited(ALL, settings)] == [1, 3]
    assert limited(ALL, WorkspaceSettings()) == ALL


@pytest.mark.parametrize(
    ("count", "held", "limit", "fits"),
    [(2, 1, 3, True), (2, 2, 3, False), (99, 99, None, True), (1, 0, 0, False)],
)
def test_the_limit_counts_what_is_held(count: int, held: int, limit: int, fits: bool) -> None:
    reason = over_limit(count, held, limit)
    assert (reason is None) == fits
    if reason is not None:
        assert f"may hold {limit} at once" in reason and f"they hold {held}" in reason
