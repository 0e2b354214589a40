"""Follows an attempt's records.jsonl into the run's metric store and the registry's summary row."""

from __future__ import annotations

from functools import partial
from typing import IO, TYPE_CHECKING

from orchestra.registry.database import DamagedError
from orchestra.registry.summary import summary
from orchestra.supervise.log import log
from orchestra.supervise.mirror import Mirror
from orchestra.wire.checkpoints import committed, step_of
from orchestra.wire.folders import AttemptFolder, Job, RunFolder
from orchestra.wire.records import Record, read_records
from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from orchestra.registry.metrics import MetricStore
    from orchestra.registry.store import Registry

_TELLS_STEP = ("start", "train", "checkpoint")  # a notice may be about no step at all


class Tail:
    """One attempt's records. `step` is the newest one heard of, at first the one it starts from.

    `first_step` is where it really started, once its ranks told: newer checkpoints may be bad.
    """

    def __init__(
        self,
        job: Job,
        attempt: AttemptFolder,
        registry: Registry,
        metrics: MetricStore,
        mirror: Mirror,
        *,
        first_step: int,
    ) -> None:
        self._job = job
        self._run = job.run
        self._attempt = attempt
        self._registry = registry
        self._metrics = metrics
        self._mirror = mirror
        self._points = mirror.lane("the metric store")
        self._whole = True
        self._file: IO[bytes] | None = None
        self.step = self.first_step = first_step
        self.started = False  # a first record was read: the ranks are at work

    def poll(self) -> None:
        """Take over what was appended since the last call."""
        if self._file is None:
            try:
                self._file = self._attempt.records.open("rb")
            except FileNotFoundError:
                return
        records = list(read_records(self._file))
        if not records:
            return
        self.started = True
        telling = [record for record in records if record.kind in _TELLS_STEP]
        for record in telling:
            if record.kind == "start":
                self.first_step = record.step
            # A save ends beside the training: its record is about an earlier step.
            self.step = record.step if record.kind == "start" else max(self.step, record.step)
        if self._job.kind == "train":  # an evaluation's steps are not the run's progress
            self._points.add(self._put, records)
            if telling:
                self._mirror.add(self._registry.progress, self._run.id, self.step, summary(records))
        for record in records:
            self._index(record)

    def close(self) -> None:
        """Read the rest and let go of the file."""
        self.poll()
        self._mirror.add(self._forget_deleted)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, records: list[Record]) -> None:
        """Points into the metric store; a damaged or missing one is made again from all records."""
        store = self._run.metrics
        try:
            if self._whole and store.is_file():
                self._metrics.append(self._attempt.number, records)
                return
        except DamagedError:
            log(f"{store} is damaged: it is made again from the records; see {store.name}.damaged")
        self._whole = False  # until it is: this may fail half way and be tried again
        self._metrics.remake(self._job)
        self._whole = True

    def _index(self, record: Record) -> None:
        """Rows for what lies in the run folder now."""
        run_id, values = self._run.id, record.values
        if record.kind == "checkpoint":
            self._mirror.add(
                self._registry.add_checkpoint,
                run_id,
                record.step,
                values["path"],
                values["score"],
                values["metric"],
                created_at=record.time_s,
            )
            self._mirror.add(self._forget_deleted)
        elif record.kind == "evaluation":
            number = values["number"]
            create = partial(self._registry.create_evaluation, state=RunState.RUNNING)
            self._mirror.add(create, run_id, number, values["split"], values["checkpoint"])
            own = self._job.kind == "train"  # the training ranks', which no supervisor watches
            add = self._registry.finish_evaluation if own else self._registry.add_result
            self._mirror.add(add, run_id, number, values["metrics"], values["checkpoint_step"])
        elif record.kind == "notice":
            self._mirror.add(self._registry.add_event, run_id, "notice", values["text"])

    def _forget_deleted(self) -> None:
        """Retention deletes folders in the ranks; the rows follow."""
        for row in self._registry.checkpoints(self._run.id):
            if not (self._run.path / row.path).is_dir():
                self._registry.drop_checkpoint(self._run.id, row.step)


def newest_checkpoint(run: RunFolder) -> int:
    """The newest committed step, 0 if there is none: how far a restart can count on."""
    return next(map(step_of, committed(run.checkpoints)), 0)
