"""Which checkpoints stay: a pure policy, and the order of the best."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from orchestra.config.schema import CheckpointConfig
from orchestra.tasks import Direction


@dataclass(frozen=True)
class Kept:
    """A committed checkpoint."""

    step: int
    score: float | None


def by_score(checkpoints: Collection[Kept], direction: Direction) -> list[Kept]:
    """Those with a finite score, best first; of equals the older one first."""
    sign = 1.0 if direction == "min" else -1.0
    scored = [(sign * c.score, c.step, c) for c in checkpoints if c.score is not None]
    finite = [entry for entry in scored if math.isfinite(entry[0])]
    return [kept for _, _, kept in sorted(finite, key=lambda entry: entry[:2])]


def superfluous(
    checkpoints: Collection[Kept], config: CheckpointConfig, direction: Direction
) -> list[int]:
    """Steps to delete: none of `keep_last`, `keep_best` and `keep_every` wants them.

    The newest always stays: it was hashed and synced last, whatever became of the older ones.
    """
    newest = sorted((kept.step for kept in checkpoints), reverse=True)[: config.keep_last]
    best = [kept.step for kept in by_score(checkpoints, direction)[: config.keep_best]]
    every = config.keep_every
    milestones = [kept.step for kept in checkpoints if every and kept.step % every == 0]
    stay = {*newest, *best, *milestones}
    return sorted(kept.step for kept in checkpoints if kept.step not in stay)
