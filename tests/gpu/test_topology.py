"""The best-linked GPUs go together, and what is left stays whole for others."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from orchestra.gpu.probe import Device, Link
from orchestra.gpu.topology import _RANKS, choose


def machine(count: int) -> list[Device]:
    return [Device(index, f"GPU-{index}") for index in range(count)]


def link(one: int, other: int, kind: str) -> Link:
    return Link(f"GPU-{one}", f"GPU-{other}", kind)


def groups(count: int, size: int, inside: str = "nvlink") -> list[Link]:
    """NVLink within groups of neighbours, the processors' bus between them."""
    return [
        link(one, other, inside if one // size == other // size else "sys")
        for one, other in combinations(range(count), 2)
    ]


def indices(devices: tuple[Device, ...]) -> list[int]:
    return [device.index for device in devices]


def without(devices: list[Device], *taken: int) -> list[Device]:
    return [device for device in devices if device.index not in taken]


def test_linked_devices_are_preferred() -> None:
    free = without(machine(8), 0, 5)
    assert indices(choose(2, free, groups(8, 2))) == [2, 3]
    assert indices(choose(4, free, groups(8, 4, "pix"))) == [1, 2, 3, 4]
    assert indices(choose(3, free, groups(8, 4))) == [1, 2, 3]


def test_one_device_is_taken_where_it_breaks_no_group() -> None:
    links = groups(4, 2)
    assert indices(choose(1, without(machine(4), 2), links)) == [3]
    assert indices(choose(1, machine(4), links)) == [0]
    # A pair out of the group of two, not out of the group of four.
    assert indices(choose(2, without(machine(8), 6, 7), groups(8, 4))) == [4, 5]


def test_without_links_the_first_are_taken_in_the_given_order() -> None:
    assert indices(choose(2, machine(4), [])) == [0, 1]
    reordered = list(reversed(machine(4)))
    assert indices(choose(2, reordered, [])) == [3, 2]
    assert indices(choose(4, reordered, groups(4, 2))) == [3, 2, 1, 0]


def test_behind_one_switch_the_first_are_taken() -> None:
    assert indices(choose(4, without(machine(8), 1), groups(8, 8))) == [0, 2, 3, 4]


@pytest.mark.parametrize("seed", range(40))
def test_always_so_many_and_never_worse_linked_than_the_first(seed: int) -> None:
    draw = random.Random(seed)
    total = draw.choice([2, 5, 8, 16, 24])
    kinds = [*_RANKS, "not told"]
    links = [link(one, other, draw.choice(kinds)) for one, other in combinations(range(total), 2)]
    free = draw.sample(machine(total), draw.randint(1, total))
    count = draw.randint(1, len(free))
    chosen = choose(count, free, links)
    assert len({device.uuid for device in chosen}) == count
    assert [device for device in free if device in chosen] == list(chosen)
    assert slowest(chosen, links) >= slowest(tuple(free[:count]), links)


def slowest(devices: tuple[Device, ...], links: list[Link]) -> int:
    ranks = {frozenset((item.first, item.second)): _RANKS.get(item.kind, 0) for item in links}
    return min((ranks[frozenset((a.uuid, b.uuid))] for a, b in combinations(devices, 2)), default=0)


def test_many_devices_are_grown_into_a_group() -> None:
    free = [device for device in machine(64) if device.index % 8 or device.index == 40]
    assert indices(choose(8, free, groups(64, 8))) == list(range(40, 48))


def test_growing_is_not_led_astray() -> None:
    """Each of twelve devices has a faster link to one outside than to the others of its group."""
    links = [
        link(one, other, "nvlink" if other == one + 12 else "pix" if other < 12 else "sys")
        for one, other in combinations(range(24), 2)
    ]
    assert indices(choose(12, machine(24), links)) == list(range(12))
