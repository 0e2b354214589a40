"""Rank 0's keeper of checkpoints: when the disk allows, what stays, what is said about it."""

from __future__ import annotations

from pathlib import Path

from orchestra.config.schema import CheckpointConfig
from orchestra.tasks import Direction
from orchestra.train import checkpoint
from orchestra.train.checkpoint import Contents
from orchestra.train.goals import Goal
from orchestra.train.recorder import DISK_FULL, Recorder
from orchestra.train.retention import Kept, by_score, superfluous
from orchestra.wire import checkpoints
from orchestra.wire.checkpoints import BadCheckpointError


class Saver:
    """Writes checkpoints below `root` and deletes those that the policy lets go."""

    def __init__(
        self, root: Path, config: CheckpointConfig, goal: Goal, recorder: Recorder
    ) -> None:
        self._root = root
        self._config = config
        self._goal = goal
        self._recorder = recorder
        checkpoint.sweep(root)

    def save(self, step: int, contents: Contents, score: float | None, *, must: bool) -> bool:
        """Commit a checkpoint, then delete superfluous ones; False if the disk is full.

        Args:
            must: nothing comes after it; a full disk is then an error.

        Raises:
            OSError: the folder can't be written, or the disk is full and `must`.
        """
        try:
            checkpoint.write(self._root, step, contents, score, self._goal.metric)
        except OSError as error:
            if must or error.errno not in DISK_FULL:
                raise
            text = f"no checkpoint at step {step}, the disk is full ({error.strerror}); training on"
            self._recorder.notice(step, text)
            return False
        for old in superfluous(kept(self._root), self._config, self._goal.direction):
            checkpoint.delete(checkpoints.step_folder(self._root, old))
        # Said last: whoever hears of the new one finds the superfluous ones gone.
        folder = checkpoints.step_folder(self._root, step)
        best = by_score(kept(self._root), self._goal.direction)
        values = {
            "path": f"{self._root.name}/{folder.name}",
            "score": score,
            "best_score": best[0].score if best else None,
            "metric": self._goal.metric,
        }
        self._recorder.write("checkpoint", step, values)
        return True


def kept(root: Path) -> list[Kept]:
    """Committed checkpoints with a readable manifest."""
    found = []
    for folder in checkpoints.committed(root):
        try:
            manifest = checkpoints.read_manifest(folder)
        except BadCheckpointError:
            continue  # the next scan for the newest good one puts it into quarantine
        found.append(Kept(manifest.step, manifest.score))
    return found


def best_first(root: Path, direction: Direction) -> list[Path]:
    """The scored checkpoints, best first, then those without a score, newest first."""
    found = kept(root)
    unscored = sorted((k for k in found if k.score is None), key=lambda k: -k.step)
    return [checkpoints.step_folder(root, k.step) for k in by_score(found, direction) + unscored]
