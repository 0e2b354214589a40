"""Padding, fill and mixing of training plans on lengths as of speech, beside what is possible."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from statistics import NormalDist

from orchestra.config.schema import BatchConfig
from orchestra.data.batches import MicroBatch, Planner
from orchestra.data.stats import fill, flat, padding, shared_neighbours
from tests.benchmarks.table import Row

TARGET_S = 60.0
V = 8
MEDIAN_S, SIGMA = 12.0, 0.5
MOST_PADDING = 0.02
BUCKETS = 20
LENGTHS = f"10,000 lognormal lengths (median 12 s, sigma 0.5), {TARGET_S:g} s, V = {V}"


def measure() -> list[Row]:
    durations = lengths(10_000)
    rows = [_plan(durations, room) for room in (1.0, 1.25)]
    rows.append(_bounds(durations))
    rows.append(_quantile_buckets(durations))
    rows.append(_planning_time(300_000))
    return rows


def lengths(count: int) -> list[float]:
    """Seconds, at most the target: longer ones would be refused."""
    draw = random.Random(0)
    return [min(draw.lognormvariate(math.log(MEDIAN_S), SIGMA), TARGET_S) for _ in range(count)]


def _planner(durations: Sequence[float], room: float) -> Planner:
    batch = BatchConfig(seconds=V * TARGET_S, max_micro_seconds=room * TARGET_S, micro_batches=V)
    return Planner(durations, [str(n) for n in range(len(durations))], batch, seed=1)


def _plan(durations: Sequence[float], room: float) -> Row:
    planner = _planner(durations, room)
    first, second = flat(planner.epoch(0)), flat(planner.epoch(1))
    return Row(
        f"plan, max_micro_seconds = {room:g} x target",
        _told(first, second, durations),
        "padding <= 2 %, fill >= 90 %, shared < 10 %",
        LENGTHS,
    )


def _told(
    first: Sequence[MicroBatch], second: Sequence[MicroBatch], durations: Sequence[float]
) -> str:
    return (
        f"padding {100 * padding(first, durations):.1f} %, "
        f"fill {100 * fill(first, durations, TARGET_S):.1f} %, "
        f"shared {100 * shared_neighbours(first, second):.1f} %"
    )


def _bounds(durations: Sequence[float]) -> Row:
    """What no plan can exceed under a hard cap.

    An utterance of length l shares its batch with at most floor(cap / l) - 1 others as long or
    longer, so it costs at least 1 / floor(cap / l) of a batch; with the padding counted, the
    fill can be higher by its share.
    """
    told = []
    for room in (1.0, 1.25):
        batches = sum(1 / (room * TARGET_S // duration) for duration in durations)
        audio = sum(durations) / (batches * TARGET_S)
        padded = audio / (1 - MOST_PADDING)
        told.append(f"{room:g} x: {100 * audio:.1f} % ({100 * padded:.1f} %)")
    return Row(
        "most fill under a hard cap, without padding (with 2 %)",
        "; ".join(told),
        "",
        "sum of l / sum of 1 / floor(cap / l), by target",
    )


def _quantile_buckets(durations: Sequence[float]) -> Row:
    """The edges are those of a lognormal of sigma 1, scaled so that the last is the budget."""
    quantiles = [math.exp(NormalDist().inv_cdf(n / (BUCKETS + 1))) for n in range(1, BUCKETS + 1)]
    edges = [TARGET_S * quantile / quantiles[-1] for quantile in quantiles]
    plans = [_in_buckets(durations, edges, random.Random(epoch)) for epoch in (0, 1)]
    return Row(
        f"for comparison: {BUCKETS} fixed buckets, the quantiles of a lognormal distribution",
        _told(plans[0], plans[1], durations),
        "",
        "as SpeechBrain's DynamicBatchSampler by default, reshuffled each epoch",
    )


def _in_buckets(
    durations: Sequence[float], edges: Sequence[float], draw: random.Random
) -> list[MicroBatch]:
    """Each bucket fills up to floor(budget / its edge) in shuffled order, then emits a batch."""
    waiting: dict[float, list[int]] = {edge: [] for edge in edges}
    batches: list[MicroBatch] = []
    for index in draw.sample(range(len(durations)), len(durations)):
        edge = next(edge for edge in edges if durations[index] <= edge)
        waiting[edge].append(index)
        if len(waiting[edge]) >= max(int(TARGET_S / edge), 1):
            batches.append(tuple(waiting[edge]))
            waiting[edge] = []
    return batches + [tuple(rest) for rest in waiting.values() if rest]


def _planning_time(count: int) -> Row:
    durations = lengths(count)
    started = time.perf_counter()
    _planner(durations, 1.25).epoch(0)
    took_s = time.perf_counter() - started
    return Row(f"planning an epoch of {count:,} utterances", f"{took_s:.2f} s", "~ 1 s", "once")
