"""Which checkpoints stay: a pure policy."""

from __future__ import annotations

from collections.abc import Collection

from orchestra.config.schema import CheckpointConfig
from orchestra.wire.checkpoints import Manifest, best_first


def superfluous(checkpoints: Collection[Manifest], config: CheckpointConfig) -> list[int]:
    """Steps to delete: none of `keep_last`, `keep_best` and `keep_every` wants them.

    The newest always stays: it was hashed and synced last, whatever became of the older ones.
    """
    newest = sorted((kept.step for kept in checkpoints), reverse=True)[: config.keep_last]
    best = [kept.step for kept in best_first(checkpoints)[: config.keep_best]]
    every = config.keep_every
    milestones = [kept.step for kept in checkpoints if every and kept.step % every == 0]
    stay = {*newest, *best, *milestones}
    return sorted(kept.step for kept in checkpoints if kept.step not in stay)
