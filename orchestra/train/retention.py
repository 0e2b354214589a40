"""Which checkpoints stay: a pure policy, and the choice of the best."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from orchestra.config.schema import CheckpointConfig
from orchestra.tasks import Direction


@dataclass(frozen=True)
class Kept:
    """A committed checkpoint."""

    step: int
    score: float | None


def better(score: float, than: float, direction: Direction) -> bool:
    """Whether `score` is strictly better."""
    return score < than if direction == "min" else score > than


def by_score(checkpoints: Collection[Kept], direction: Direction) -> list[Kept]:
    """Those with a score, best first; of equals the older one first."""
    sign = 1.0 if direction == "min" else -1.0
    scored = [(sign * c.score, c.step, c) for c in checkpoints if c.score is not None]
    return [kept for _, _, kept in sorted(scored, key=lambda entry: entry[:2])]


def superfluous(
    checkpoints: Collection[Kept], config: CheckpointConfig, direction: Direction
) -> list[int]:
    """Steps to delete: neither among the last `keep_last` nor among the best `keep_best`."""
    newest = sorted((kept.step for kept in checkpoints), reverse=True)[: config.keep_last]
    best = [kept.step for kept in by_score(checkpoints, direction)[: config.keep_best]]
    return sorted(kept.step for kept in checkpoints if kept.step not in {*newest, *best})
