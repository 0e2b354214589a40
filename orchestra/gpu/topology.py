"""Which of the free GPUs a run gets: those that talk fastest to each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Protocol, TypeVar

from orchestra.gpu.probe import Link


class HasUuid(Protocol):
    """A GPU, whatever else is known of it."""

    @property
    def uuid(self) -> str: ...


_Gpu = TypeVar("_Gpu", bound=HasUuid)

#: Higher is faster; a pair of which the driver tells nothing is 0.
_RANKS = {"nvlink": 6, "pix": 5, "pxb": 4, "phb": 3, "node": 2, "sys": 1}
#: Up to so many sets are all looked at (8 of 8, 4 of 14, 2 of 64 GPUs); beyond, sets are grown.
_MOST_SETS = 2048

_Matrix = list[list[int]]


def choose(count: int, free: Sequence[_Gpu], links: Sequence[Link]) -> tuple[_Gpu, ...]:
    """`count` of the free devices, in their order; at least so many must be free.

    First the set whose slowest link is fastest, then the one with the fastest links in sum, then
    the one that tears the fewest links to devices left for others, then the first.
    """
    ranks = _matrix(free, links)
    everyone = range(len(free))
    first = tuple(range(count))
    if count == len(free) or _is_uniform(ranks):
        return tuple(free[:count])
    if comb(len(free), count) <= _MOST_SETS:
        sets = list(combinations(everyone, count))
    else:
        sets = list(dict.fromkeys([first, *(_grow(seed, count, ranks) for seed in everyone)]))
    linked = [sum(row) for row in ranks]
    best = max(sets, key=lambda chosen: _score(chosen, ranks, linked))
    return tuple(free[position] for position in best)


def _matrix(free: Sequence[HasUuid], links: Sequence[Link]) -> _Matrix:
    """The rank of each pair, by position in `free`."""
    position = {device.uuid: place for place, device in enumerate(free)}
    ranks = [[0] * len(free) for _ in free]
    for link in links:
        one, other = position.get(link.first), position.get(link.second)
        if one is not None and other is not None:
            ranks[one][other] = ranks[other][one] = _RANKS.get(link.kind, 0)
    return ranks


def _is_uniform(ranks: _Matrix) -> bool:
    """Whether all pairs are alike, as without links or behind one switch."""
    return len({ranks[one][other] for one, other in combinations(range(len(ranks)), 2)}) <= 1


def _score(chosen: tuple[int, ...], ranks: _Matrix, linked: list[int]) -> tuple[int, int, int]:
    """`linked`: the ranks of each device's links in sum."""
    inside = [ranks[one][other] for one, other in combinations(chosen, 2)]
    # Each inner link is met from both its ends; the rest leads to devices left for others.
    torn = sum(linked[one] for one in chosen) - 2 * sum(inside)
    return min(inside, default=0), sum(inside), -torn


def _grow(seed: int, count: int, ranks: _Matrix) -> tuple[int, ...]:
    """From one device on, always the one that is linked best to those chosen."""
    chosen = [seed]
    slowest = list(ranks[seed])
    total = list(ranks[seed])
    left = set(range(len(ranks))) - {seed}
    while len(chosen) < count:
        best = max(left, key=lambda place: (slowest[place], total[place], -place))
        left.remove(best)
        chosen.append(best)
        for place in left:
            slowest[place] = min(slowest[place], ranks[best][place])
            total[place] += ranks[best][place]
    return tuple(sorted(chosen))
