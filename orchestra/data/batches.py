"""Which utterances make which batch. Pure: durations, a seed and an epoch in, indices out.

Training: an epoch is a list of steps, a step a list of micro-batches of like length. The plan
depends on (seed, epoch) and the batch config alone, never on ranks, workers or history.
Evaluation: the same batches whatever the number of ranks, dealt out by cost.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from orchestra.wire.errors import DataError

MicroBatch = tuple[int, ...]
"""Indices of utterances."""

LENGTH_JITTER = 0.04
"""Relative noise on durations before sorting: mixes neighbours for about 1 % of padding."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: the next step to take is step `index` of `epoch`."""

    epoch: int = 0
    index: int = 0


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    `micro_batches` has V entries; at an epoch's tail possibly up to 2 V - 1 where fewer than V
    utterances were left over. Rank r of w takes those at r, r + w, r + 2 w, ...
    """

    position: Position
    following: Position
    micro_batches: tuple[MicroBatch, ...]


class Planner:
    """The endless sequence of steps of a run.

    Args:
        durations: seconds of each utterance, in the split's order.
        ids: their names, for messages.
        seconds: padded audio of a step (batch.seconds).
        max_micro_seconds: the most that one micro-batch may hold, padded.
        micro_batches: V.

    Raises:
        DataError: too few utterances for V, or one longer than `max_micro_seconds`.
    """

    def __init__(
        self,
        durations: Sequence[float],
        ids: Sequence[str],
        *,
        seed: int,
        seconds: float,
        max_micro_seconds: float,
        micro_batches: int,
    ) -> None:
        _check(durations, ids, max_micro_seconds, micro_batches)
        self._durations = durations
        self._seed = seed
        self._budget_s = min(seconds / micro_batches, max_micro_seconds)
        self._virtual_ranks = micro_batches
        self.epoch = lru_cache(maxsize=2)(self._plan_epoch)

    def steps(self, start: Position) -> Iterator[Step]:
        """All steps from `start` on, epoch after epoch, without end."""
        for epoch in count(start.epoch):
            planned = self.epoch(epoch)
            first = start.index if epoch == start.epoch else 0
            for index in range(first, len(planned)):
                last = index + 1 == len(planned)
                following = Position(epoch + 1, 0) if last else Position(epoch, index + 1)
                yield Step(Position(epoch, index), following, planned[index])

    def seconds_of(self, step: Step) -> float:
        """Audio of a step over all ranks, without padding."""
        return sum(self._durations[i] for micro in step.micro_batches for i in micro)

    def _plan_epoch(self, epoch: int) -> list[tuple[MicroBatch, ...]]:
        draw = random.Random(f"{self._seed}/batches/{epoch}")
        order = _jittered_order(self._durations, self._virtual_ranks, self._budget_s, draw)
        packed = pack(order, self._durations, self._budget_s)
        steps = _group(packed, self._virtual_ranks, draw)
        draw.shuffle(steps)
        return steps


def pack(order: Sequence[int], durations: Sequence[float], budget_s: float) -> list[MicroBatch]:
    """Cut `order` into runs whose padded length, count x longest, stays within the budget.

    An utterance longer than the budget makes a batch of its own.
    """
    batches: list[MicroBatch] = []
    current: list[int] = []
    longest = 0.0
    for index in order:
        longest = max(longest, durations[index])
        if current and longest * (len(current) + 1) > budget_s:
            batches.append(tuple(current))
            current, longest = [], durations[index]
        current.append(index)
    if current:
        batches.append(tuple(current))
    return batches


def plan_evaluation(durations: Sequence[float], budget_s: float) -> list[MicroBatch]:
    """The batches of a split, longest utterances first (what doesn't fit, fails at once)."""
    order = sorted(range(len(durations)), key=lambda index: (-durations[index], index))
    return pack(order, durations, budget_s)


def draw_subset(count: int, wanted: int, seed: int) -> list[int]:
    """`wanted` of `count` indices, sorted; the same for the same seed."""
    return sorted(random.Random(f"{seed}/subset").sample(range(count), wanted))


def deal(batches: Sequence[MicroBatch], durations: Sequence[float], ranks: int) -> list[list[int]]:
    """For each rank the numbers of its batches: the costliest first, to the least loaded rank."""
    cost = [len(batch) * max(durations[i] for i in batch) for batch in batches]
    load = [0.0] * ranks
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for number in sorted(range(len(batches)), key=lambda n: (-cost[n], n)):
        rank = load.index(min(load))
        shares[rank].append(number)
        load[rank] += cost[number]
    return shares


def _check(
    durations: Sequence[float], ids: Sequence[str], max_micro_seconds: float, micro_batches: int
) -> None:
    if len(durations) < micro_batches:
        raise DataError(
            f"the training split has {len(durations)} utterances, but a step takes "
            f"{micro_batches} micro-batches; raise batch.max_micro_seconds or use fewer ranks"
        )
    longest = max(range(len(durations)), key=lambda index: durations[index])
    if durations[longest] > max_micro_seconds:
        raise DataError(
            f"utterance {ids[longest]} lasts {durations[longest]:.1f} s, more than "
            f"batch.max_micro_seconds = {max_micro_seconds:g}; raise it or cut the utterance"
        )


def _jittered_order(
    durations: Sequence[float], virtual_ranks: int, budget_s: float, draw: random.Random
) -> list[int]:
    """Indices by duration, shuffled locally.

    Noise on the duration mixes large splits; noise on the place, about half a step wide, mixes
    small ones, where few utterances are of like length.
    """
    noisy = [d * (1 + LENGTH_JITTER * (draw.random() - 0.5)) for d in durations]
    by_length = sorted(range(len(durations)), key=noisy.__getitem__)
    mean_s = max(sum(durations) / len(durations), 1e-3)
    window = virtual_ranks * max(budget_s / mean_s, 1.0) / 2
    places = [place + window * draw.random() for place in range(len(by_length))]
    return [by_length[place] for place in sorted(range(len(places)), key=places.__getitem__)]


def _group(
    packed: list[MicroBatch], virtual_ranks: int, draw: random.Random
) -> list[tuple[MicroBatch, ...]]:
    """Consecutive micro-batches, V to a step.

    What is left over stands at a random place, so that it is not always the longest utterances
    that make a small step. It becomes a step of its own if every micro-batch can get an utterance,
    else it joins the step before (or after, if it is the first).
    """
    whole, left_over = divmod(len(packed), virtual_ranks)
    place = draw.randint(0, whole) if left_over else whole
    start = place * virtual_ranks
    groups = _chunks(packed[:start], virtual_ranks)
    after = _chunks(packed[start + left_over :], virtual_ranks)
    rest = packed[start : start + left_over]
    if sum(map(len, rest)) >= virtual_ranks:
        groups.append(_split(rest, virtual_ranks))
    elif groups:
        groups[-1] = groups[-1] + rest
    elif after:
        after[0] = rest + after[0]
    return [tuple(group) for group in groups + after]


def _chunks(packed: list[MicroBatch], size: int) -> list[list[MicroBatch]]:
    return [packed[start : start + size] for start in range(0, len(packed), size)]


def _split(group: list[MicroBatch], count: int) -> list[MicroBatch]:
    """Halve the largest micro-batches until there are `count`."""
    group = list(group)
    while len(group) < count:
        largest = max(range(len(group)), key=lambda n: len(group[n]))
        batch = group[largest]
        half = len(batch) // 2
        group[largest : largest + 1] = [batch[:half], batch[half:]]
    return group
