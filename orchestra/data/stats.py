"""What a config makes of the training split: lengths, micro-batches, padding, what is too long.

`python -m orchestra.data.stats --config FILE --code DIR`; reads manifests, no audio. The measures
are pure functions of a plan.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestra.config.frozen import read_frozen
from orchestra.config.schema import BatchConfig
from orchestra.data import program
from orchestra.data.batches import MicroBatch, Planner, padded_s
from orchestra.wire.errors import NotFoundError

PERCENTS = (0, 5, 25, 50, 75, 95, 99, 100)
LONGEST = 5
"""So many of the longest utterances are listed."""
BUCKETS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="data stats", description="Plan the training split.")
    parser.add_argument("--config", type=Path, required=True, help="frozen config")
    parser.add_argument("--code", type=Path, required=True, help="folder of the tasks' code")
    return program.run(parser, _work, argv)


def _work(arguments: argparse.Namespace) -> program.Outcome:
    config, info = read_frozen(arguments.config, arguments.code)
    task = info.task_class()(config.task, config.data)
    try:
        utterances = task.utterances(config.data.train)
    except NotFoundError as error:
        hint = f"`orchestra run {info.name} --dry-run` with the same options tells how to make it"
        raise NotFoundError(f"{error}; {hint}") from error
    durations = [config.augment.longest_s(utterance.duration_s) for utterance in utterances]
    ids = [utterance.id for utterance in utterances]
    document = describe(durations, ids, config.batch, config.seed)
    head = {"task": info.name, "split": config.data.train, "seed": config.seed}
    return program.Outcome({**head, **document})


def describe(
    durations: Sequence[float], ids: Sequence[str], batch: BatchConfig, seed: int
) -> dict[str, Any]:
    """The split and its plan as a JSON document.

    Utterances above the cap are planned as if isolated, whatever the policy, and listed.

    Raises:
        DataError: fewer utterances than micro-batches in a step.
    """
    isolating = batch.model_copy(update={"too_long": "isolate"})
    planner = Planner(durations, ids, isolating, seed=seed)
    steps = planner.epoch(0)
    micro_batches = flat(steps)
    step_s = [sum(padded_s(micro, durations) for micro in step) for step in steps]
    ordered = sorted(range(len(durations)), key=lambda index: (-durations[index], index))

    def named(indices: Sequence[int]) -> list[dict[str, Any]]:
        return [{"id": ids[index], "seconds": round(durations[index], 3)} for index in indices]

    return {
        "utterances": len(durations),
        "seconds": round(sum(durations), 3),
        "percentiles_s": _percentiles([durations[index] for index in reversed(ordered)]),
        "batch": batch.model_dump(mode="json", exclude_none=True),
        "target_s": planner.target_s,
        **measures(planner, durations),
        "step_seconds": {
            "min": round(min(step_s), 3),
            "mean": round(sum(step_s) / len(step_s), 3),
            "max": round(max(step_s), 3),
        },
        "shared_neighbours": round(shared_neighbours(micro_batches, flat(planner.epoch(1))), 6),
        "longest": named(ordered[:LONGEST]),
        "too_long": named(planner.too_long),
        "buckets": _buckets(micro_batches, durations, planner.target_s),
    }


def measures(planner: Planner, durations: Sequence[float]) -> dict[str, float]:
    """Steps, micro-batches, padding and fill of the first epoch."""
    micro_batches = flat(planner.epoch(0))
    return {
        "steps": planner.steps_in(0),
        "micro_batches": len(micro_batches),
        "padding": round(padding(micro_batches, durations), 6),
        "fill": round(fill(micro_batches, durations, planner.target_s), 6),
    }


def flat(steps: Sequence[Sequence[MicroBatch]]) -> list[MicroBatch]:
    """All micro-batches of an epoch."""
    return [micro for step in steps for micro in step]


def padding(micro_batches: Sequence[MicroBatch], durations: Sequence[float]) -> float:
    """Share of the padded audio that is padding."""
    padded = sum(padded_s(micro, durations) for micro in micro_batches)
    return 1 - sum(durations[index] for micro in micro_batches for index in micro) / padded


def fill(micro_batches: Sequence[MicroBatch], durations: Sequence[float], target_s: float) -> float:
    """Mean padded audio of a micro-batch, relative to its target."""
    padded = sum(padded_s(micro, durations) for micro in micro_batches)
    return padded / (len(micro_batches) * target_s)


def shared_neighbours(first: Sequence[MicroBatch], second: Sequence[MicroBatch]) -> float:
    """Share of the pairs of utterances in one batch of `first` that share one of `second` too."""
    number_in_second = {index: n for n, micro in enumerate(second) for index in micro}
    pairs = shared = 0
    for micro in first:
        pairs += len(micro) * (len(micro) - 1) // 2
        together = Counter(number_in_second[index] for index in micro)
        shared += sum(count * (count - 1) // 2 for count in together.values())
    return shared / pairs if pairs else 0.0


def _percentiles(ascending: Sequence[float]) -> dict[str, float]:
    """By nearest rank: lengths that occur."""
    last = len(ascending) - 1
    return {str(p): round(ascending[round(p / 100 * last)], 3) for p in PERCENTS}


def _buckets(
    micro_batches: Sequence[MicroBatch], durations: Sequence[float], target_s: float
) -> list[dict[str, Any]]:
    """Groups of micro-batches by length, about as many in each."""
    ordered = sorted(micro_batches, key=lambda micro: max(durations[index] for index in micro))
    count = min(BUCKETS, len(ordered))
    edges = [len(ordered) * number // count for number in range(count + 1)]
    buckets = []
    for start, end in pairwise(edges):
        group = ordered[start:end]
        lengths = [durations[index] for micro in group for index in micro]
        buckets.append(
            {
                "shortest_s": round(min(lengths), 3),
                "longest_s": round(max(lengths), 3),
                "utterances": len(lengths),
                "micro_batches": len(group),
                "padding": round(padding(group, durations), 6),
                "fill": round(fill(group, durations, target_s), 6),
            }
        )
    return buckets


if __name__ == "__main__":
    sys.exit(main())
