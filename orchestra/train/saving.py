"""Rank 0's keeper of checkpoints: copies at once, writes beside the training, says what became.

One save is under way at most. Its thread writes, deletes what the policy lets go and exports the
best; records are written by the caller's thread alone. A process that ends waits for that thread.
The heart of who waits for a save or an export beats as long as the disk gets on with it: a slow
disk is no hang, one that is stuck is.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from orchestra.config.schema import CheckpointConfig
from orchestra.train import checkpoint
from orchestra.train.checkpoint import Contents, Files
from orchestra.train.goals import Goal
from orchestra.train.recorder import Recorder
from orchestra.train.retention import superfluous
from orchestra.train.snapshot import Snapshots
from orchestra.wire import checkpoints
from orchestra.wire.checkpoints import Manifest
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.files import DISK_FULL

_LOOK_S = 1.0
T = TypeVar("T")
_NOT_WRITABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP}
)


Export = Callable[[Path, Callable[[], None]], None]
"""Exports a checkpoint's folder; calls the second argument whenever it has got on."""


class _Pieces:
    """Written or read by one thread, which alone counts them."""

    def __init__(self) -> None:
        self.moved = 0

    def count(self) -> None:
        """One more."""
        self.moved += 1


@dataclass(frozen=True)
class _Kept:
    """What tells a checkpoint from another: the same step may be saved again with its score."""

    step: int
    score: float | None


@dataclass(frozen=True)
class _Save:
    """One that is under way."""

    this: _Kept
    done: Future[_Outcome]


@dataclass(frozen=True)
class _Outcome:
    best: _Kept | None
    """Of the checkpoints that exist now."""
    not_deleted: str
    """Why one that should have gone is still there; the next save or attempt removes it."""


@dataclass(frozen=True)
class _Export:
    """One that is under way."""

    of: _Kept
    done: Future[None]


class Saver:
    """Writes checkpoints below `root` and deletes those that the policy lets go."""

    def __init__(
        self,
        root: Path,
        config: CheckpointConfig,
        goal: Goal,
        recorder: Recorder,
        beat: Callable[[], None],
        export: Export | None = None,
    ) -> None:
        """`beat` is called while somebody waits for what gets on.

        `export` is called in the background with the best one's folder when that changed, one
        at a time; no save waits for it, and of several that wait for it the newest is exported.

        Raises:
            UsageError: `root` can't be written.
        """
        self._root = root
        self._config = config
        self._goal = goal
        self._recorder = recorder
        self._beat = beat
        self._export = export
        self._exporting: _Export | None = None
        self._exported: _Kept | None = None
        self._best: _Kept | None = None
        self._told_of_deletion = False
        self._snapshots = Snapshots()
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._exporter = ThreadPoolExecutor(1, "export")
        self._prepared: Future[None] | None = None
        self._written = _Pieces()
        self._sent = _Pieces()  # by the export
        self._under_way: _Save | None = None
        _require_writable(root)
        checkpoint.sweep(root)
        found = checkpoints.manifests(root)
        self._saved = _Kept(found[0].step, found[0].score) if found else None

    def prepare(self, contents: Contents) -> None:
        """Take the memory of the copies beside the training, before the first save needs it."""
        self._prepared = self._writer.submit(self._snapshots.reserve, contents)

    def save(
        self, step: int, contents: Callable[[], Contents], score: float | None, *, must: bool
    ) -> None:
        """Save this step, unless it is saved with this score or on its way.

        Returns when the copy is taken; the rest happens in the background.

        Args:
            must: nothing comes after it: wait for it; a full disk is then an error.

        Raises:
            UsageError, OSError: as `poll`, about this save or the one before.
        """
        if score is not None and not math.isfinite(score):
            score = None
        this = _Kept(step, score)
        if self._under_way and self._under_way.this == this and not must:
            return
        self._finish(must=False)
        if self._saved == this:
            return
        if self._prepared is not None:
            self._await(self._prepared, self._written)
        files = self._snapshots.take(contents())
        self._under_way = _Save(this, self._writer.submit(self._keep, this, files))
        if must:
            self._finish(must=True)

    def is_among_best(self, step: int, score: float | None) -> bool:
        """Whether `step` would be one of the best `keep_best` checkpoints that exist.

        Scores alone don't count: their checkpoints may be lost. Waits for the save before; raises
        as `poll`.
        """
        self._finish(must=False)
        others = [one for one in checkpoints.manifests(self._root) if one.step != step]
        this = Manifest(step, score, self._goal.metric, {}, "", self._goal.direction)
        return this in checkpoints.best_first([this, *others])[: self._config.keep_best]

    def poll(self) -> None:
        """To be called once per step: tell what became of a save or an export that has ended.

        Raises:
            UsageError: the folder can't be written any more.
            OSError: the disk failed; a full one is only told, and training goes on.
        """
        if self._under_way and self._under_way.done.done():
            self._finish(must=False)
        if self._exporting and self._exporting.done.done():
            self._finish_export()

    def close(self) -> None:
        """Wait for the save that is under way, and for the export of the best; raises as `poll`."""
        try:
            self._finish(must=False)
        finally:
            while self._exporting:
                self._finish_export()
            self._writer.shutdown()
            self._exporter.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """As `close`; where an error is under way already, a failed save is only told."""
        save = self._under_way
        try:
            self.close()
        except (OSError, OrchestraError) as lost:
            if error is None or save is None:
                raise
            step = save.this.step
            self._recorder.notice(step, f"no checkpoint at step {step}: {lost}")

    def _finish(self, *, must: bool) -> None:
        save, self._under_way = self._under_way, None
        if save is None:
            return
        step, score = save.this.step, save.this.score
        try:
            outcome = self._await(save.done, self._written)
        except OSError as error:
            self._lost(f"no checkpoint at step {step}", step, error, must=must)
            return
        self._saved, self._best = save.this, outcome.best
        values = {
            "path": f"{self._root.name}/{checkpoints.step_folder(self._root, step).name}",
            "score": score,
            "best_score": outcome.best.score if outcome.best else None,
            "metric": self._goal.metric,
        }
        self._recorder.write("checkpoint", step, values)
        if outcome.not_deleted and not self._told_of_deletion:
            self._told_of_deletion = True
            text = f"an old checkpoint can't be deleted ({outcome.not_deleted}); training on"
            self._recorder.notice(step, text)
        self._export_best()

    def _export_best(self) -> None:
        best = self._best
        if self._export is None or self._exporting or best is None or best == self._exported:
            return
        folder = checkpoints.step_folder(self._root, best.step)
        self._exporting = _Export(
            best, self._exporter.submit(self._export, folder, self._sent.count)
        )

    def _finish_export(self) -> None:
        """Wait for the export; begin that of a newer best one."""
        export, self._exporting = self._exporting, None
        if export is None:
            return
        try:
            self._await(export.done, self._sent)
        except (OSError, OrchestraError) as error:
            if export.of == self._best:  # else retention may have taken it, and the next one counts
                text = f"the best checkpoint is not exported ({error}); training on"
                self._recorder.notice(export.of.step, text)
        else:
            self._exported = export.of
        if export.of != self._best:
            self._export_best()

    def _lost(self, what: str, step: int, error: OSError, *, must: bool) -> None:
        if error.errno in _NOT_WRITABLE:
            raise _not_writable(self._root, error) from error
        if must or error.errno not in DISK_FULL:
            raise error
        text = f"{what}, the disk is full ({error.strerror}); training on"
        self._recorder.notice(step, text)

    def _await(self, work: Future[T], pieces: _Pieces) -> T:
        """What the other thread found; the heart beats while it moves piece after piece."""
        seen = -1
        while not _ended(work):
            if pieces.moved != seen:
                seen = pieces.moved
                self._beat()
        return work.result()

    def _keep(self, this: _Kept, files: Files) -> _Outcome:
        """In the background: commit, then delete. No records from here."""
        checkpoint.write(self._root, this.step, files, this.score, self._goal, self._written.count)
        not_deleted = ""
        for old in superfluous(checkpoints.manifests(self._root), self._config):
            try:
                checkpoints.delete(checkpoints.step_folder(self._root, old))
                self._written.count()
            except OSError as error:
                not_deleted = str(error)
        ranked = checkpoints.best_first(checkpoints.manifests(self._root))
        best = _Kept(ranked[0].step, ranked[0].score) if ranked else None
        return _Outcome(best, not_deleted)


def _ended(work: Future[Any]) -> bool:
    """Whether it has, after a short wait for it."""
    return bool(wait([work], _LOOK_S).done)


def best_first(root: Path) -> list[Path]:
    """The scored checkpoints, best first, then those without a score, newest first."""
    found = checkpoints.manifests(root)
    scored = checkpoints.best_first(found)
    unscored = [manifest for manifest in found if manifest not in scored]
    return [checkpoints.step_folder(root, manifest.step) for manifest in scored + unscored]


def _require_writable(root: Path) -> None:
    """Known now, not after the first thousand steps. A full disk is another matter."""
    probe = root / f".probe-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.mkdir(exist_ok=True)
        probe.rmdir()
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            raise _not_writable(root, error) from error
        if error.errno not in DISK_FULL:
            raise


def _not_writable(root: Path, error: OSError) -> UsageError:
    return UsageError(
        f"can't write checkpoints to {root}: {error.strerror}; make that a folder that can be "
        "written, then `orchestra resume`"
    )
