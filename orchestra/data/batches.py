"""Which utterances make which batch. Pure: durations, a seed and an epoch in, indices out.

Training: an epoch is a list of steps, a step a list of micro-batches of like length. The plan
depends on (seed, epoch) and the batch config alone, never on ranks, workers or history.
A micro-batch has a target, its share of the step's seconds, and a cap, what fits into memory: it
takes the number of utterances whose padded length is nearest to the target and within the cap.
Evaluation: the same batches whatever the number of ranks, dealt out by cost.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, pairwise
from typing import cast

from orchestra.config.schema import BatchConfig
from orchestra.wire.errors import DataError

MicroBatch = tuple[int, ...]
"""Indices of utterances."""

LENGTH_JITTER = 0.04
"""Relative noise on durations before sorting: mixes neighbours for about 1 % of padding."""

DISTINCT_COUNTS = 25
"""Utterances of which 1, 2, ... up to so many fit into a micro-batch are kept apart when lengths
are mixed: one that is a little longer would cost the others a place. Of 25, one place is little."""

SHORTEST_S = 1e-3
"""What a manifest calls shorter, 0 included, counts as this."""

NAMED = 3
"""Utterances that a message names."""


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
        durations: seconds of each utterance, in the split's order; with augmentation the most
            that is made of it.
        ids: their names, for messages.
        batch: the config's, with V (`micro_batches`).

    Raises:
        DataError: too few utterances for V, or `batch` refuses some that are too long.
    """

    def __init__(
        self, durations: Sequence[float], ids: Sequence[str], batch: BatchConfig, *, seed: int
    ) -> None:
        v, cap_s = cast(int, batch.micro_batches), batch.max_micro_seconds
        if len(durations) < v:
            raise DataError(
                f"the training split has {len(durations)} utterances, but a step takes {v} "
                "micro-batches; raise batch.max_micro_seconds or use fewer ranks"
            )
        self.too_long = too_long_for(durations, cap_s)
        """Indices of the utterances above the cap, the longest first."""
        if self.too_long and batch.too_long == "refuse":
            raise DataError(
                tell_too_long(
                    self.too_long,
                    durations,
                    ids,
                    cap_s,
                    'raise it, cut them, or set batch.too_long = "isolate" to give each a '
                    "micro-batch of its own",
                )
            )
        self.target_s = target_s(batch)
        self._durations = durations
        self._sizes = [fitting(d, self.target_s, cap_s) for d in durations]
        self._seed = seed
        self._virtual_ranks = v
        mean_s = max(sum(durations) / len(durations), SHORTEST_S)
        self._window = v * max(self.target_s / mean_s, 1.0) / 2
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

    def steps_in(self, epoch: int) -> int:
        """How many steps an epoch has; a few more or less than another."""
        return len(self.epoch(epoch))

    def epochs_done(self, position: Position) -> float:
        """Epochs that lie before `position`: whole ones, and the share of the one begun."""
        if position.index == 0:
            return float(position.epoch)
        return position.epoch + position.index / self.steps_in(position.epoch)

    def worst(self, epoch: int, parts: int = 1) -> tuple[MicroBatch, MicroBatch]:
        """The micro-batch with the longest utterance and the one of most padded audio.

        They may be one and the same. With `parts`, of what they are cut into.
        """
        micro_batches = [
            part for step in self.epoch(epoch) for micro in step for part in cut(micro, parts)
        ]
        longest = max(micro_batches, key=lambda micro: max(self._durations[i] for i in micro))
        return longest, max(micro_batches, key=lambda micro: padded_s(micro, self._durations))

    def _plan_epoch(self, epoch: int) -> list[tuple[MicroBatch, ...]]:
        draw = random.Random(f"{self._seed}/batches/{epoch}")
        order = _jittered_order(self._durations, self._sizes, self._window, draw)
        packed = pack(order, self._sizes)
        steps = _group(packed, self._virtual_ranks, draw)
        draw.shuffle(steps)
        return steps


def target_s(batch: BatchConfig) -> float:
    """Padded audio that a micro-batch comes near to: its share of the step, within the cap."""
    return min(batch.seconds / cast(int, batch.micro_batches), batch.max_micro_seconds)


def too_long_for(durations: Sequence[float], max_micro_seconds: float) -> tuple[int, ...]:
    """Indices of the utterances above the cap, the longest first."""
    above = (index for index, duration in enumerate(durations) if duration > max_micro_seconds)
    return tuple(sorted(above, key=lambda index: -durations[index]))


def tell_too_long(
    indices: Sequence[int],
    durations: Sequence[float],
    ids: Sequence[str],
    max_micro_seconds: float,
    fate: str,
) -> str:
    """How many utterances are above the cap, what of them, and which; the longest are named."""
    named = ", ".join(f"{ids[index]} ({durations[index]:.1f} s)" for index in indices[:NAMED])
    more = f" and {len(indices) - NAMED} more" if len(indices) > NAMED else ""
    count = f"{len(indices)} utterances are" if len(indices) > 1 else "1 utterance is"
    cap = f"batch.max_micro_seconds = {max_micro_seconds:g}"
    return f"{count} longer than {cap}; {fate}: {named}{more}"


def padded_s(batch: Sequence[int], durations: Sequence[float]) -> float:
    """Seconds of audio in a batch, padding included."""
    return len(batch) * max(durations[index] for index in batch)


def fitting(duration_s: float, target_s: float, cap_s: float) -> int:
    """How many utterances of this length come nearest to the target without passing the cap.

    At least one, however long it is.
    """
    duration_s = max(duration_s, SHORTEST_S)
    below = int(target_s / duration_s)
    if below * duration_s > target_s:  # the quotient was rounded up
        below -= 1
    above_s = (below + 1) * duration_s
    nearer = above_s - target_s < target_s - below * duration_s
    return max(below + 1 if nearer and above_s <= cap_s else below, 1)


def pack(order: Sequence[int], sizes: Sequence[int]) -> list[MicroBatch]:
    """Cut `order` into runs as long as each utterance in them allows.

    `sizes[i]`: how many a batch with utterance i may hold, at least 1.
    """
    batches: list[MicroBatch] = []
    current: list[int] = []
    limit = len(order)
    for index in order:
        limit = min(limit, sizes[index])
        if len(current) >= limit:
            batches.append(tuple(current))
            current, limit = [], sizes[index]
        current.append(index)
    if current:
        batches.append(tuple(current))
    return batches


def cut(micro_batch: MicroBatch, parts: int) -> list[MicroBatch]:
    """Up to so many runs of its utterances, as even as can be, none empty; in order."""
    if parts == 1:
        return [micro_batch]
    count = min(parts, len(micro_batch))
    ends = [len(micro_batch) * number // count for number in range(count + 1)]
    return [micro_batch[start:end] for start, end in pairwise(ends)]


def plan_evaluation(durations: Sequence[float], budget_s: float) -> list[MicroBatch]:
    """The batches of a split, longest utterances first (what doesn't fit, fails at once)."""
    order = sorted(range(len(durations)), key=lambda index: (-durations[index], index))
    return pack(order, [fitting(duration, budget_s, budget_s) for duration in durations])


def draw_subset(count: int, wanted: int, seed: int) -> list[int]:
    """`wanted` of `count` indices, sorted; the same for the same seed, all if there are no more."""
    return sorted(random.Random(f"{seed}/subset").sample(range(count), min(wanted, count)))


def deal(batches: Sequence[MicroBatch], durations: Sequence[float], ranks: int) -> list[list[int]]:
    """For each rank the numbers of its batches: the costliest first, to the least loaded rank."""
    cost = [padded_s(batch, durations) for batch in batches]
    load = [0.0] * ranks
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for number in sorted(range(len(batches)), key=lambda n: (-cost[n], n)):
        rank = load.index(min(load))
        shares[rank].append(number)
        load[rank] += cost[number]
    return shares


def _jittered_order(
    durations: Sequence[float], sizes: Sequence[int], window: float, draw: random.Random
) -> list[int]:
    """Indices by duration, shuffled locally, but utterances of one batch size kept together.

    Noise on the duration mixes large splits; noise on the place, about half a step wide
    (`window`), mixes small ones, where few utterances are of like length.
    """
    noisy = [d * (1 + LENGTH_JITTER * (draw.random() - 0.5)) for d in durations]
    by_length = sorted(range(len(durations)), key=noisy.__getitem__)
    by_length.sort(key=lambda index: -min(sizes[index], DISTINCT_COUNTS))
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
