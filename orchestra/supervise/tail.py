"""Follows an attempt's records.jsonl into the run's metric store and the registry's summary row."""

from __future__ import annotations

from functools import partial
from typing import IO, TYPE_CHECKING, Any

from orchestra.supervise.mirror import Mirror
from orchestra.wire.folders import AttemptFolder, RunFolder
from orchestra.wire.records import Record, read_records
from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from orchestra.registry.metrics import MetricStore
    from orchestra.registry.store import Registry

_PREFIX = "step-"
_SHOWN = ("loss", "audio_s_per_s", "eta_s")  # in `orchestra ls`


class Tail:
    """One attempt's records. `step` is the newest one heard of."""

    def __init__(
        self,
        run: RunFolder,
        attempt: AttemptFolder,
        registry: Registry,
        metrics: MetricStore,
        mirror: Mirror,
    ) -> None:
        self._run = run
        self._attempt = attempt
        self._registry = registry
        self._metrics = metrics
        self._mirror = mirror
        self._file: IO[bytes] | None = None
        self.step = 0
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
        self._mirror.add(self._metrics.append, self._attempt.number, records)
        self._summarise(records)
        for record in records:
            self._index(record)

    def close(self) -> None:
        """Read the rest and let go of the file."""
        self.poll()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _summarise(self, records: list[Record]) -> None:
        """One write for the whole batch: the newest value of each key counts."""
        values: dict[str, Any] = {}
        for record in records:
            self.step = max(self.step, record.step)
            if record.kind == "start":
                self.step = record.step
                values["max_steps"] = record.values.get("max_steps")
            elif record.kind == "train":
                values |= {name: record.values.get(name) for name in _SHOWN}
            elif record.kind == "checkpoint" and record.values.get("score") is not None:
                values["score"] = record.values["score"]
        self._mirror.add(self._registry.progress, self._run.id, self.step, values)

    def _index(self, record: Record) -> None:
        """Rows for what lies in the run folder now."""
        run_id, values = self._run.id, record.values
        if record.kind == "checkpoint":
            self._mirror.add(
                self._registry.add_checkpoint,
                run_id,
                record.step,
                values["path"],
                values.get("score"),
                values.get("metric"),
            )
            self._mirror.add(self._forget_deleted)
        elif record.kind == "evaluation":
            number, checkpoint = values["number"], values["checkpoint"]
            create = partial(self._registry.create_evaluation, state=RunState.RUNNING)
            self._mirror.add(create, run_id, number, values["split"], checkpoint)
            self._mirror.add(
                self._registry.finish_evaluation,
                run_id,
                number,
                values["metrics"],
                _step_of(checkpoint, record.step),
            )
        elif record.kind == "notice":
            self._mirror.add(self._registry.add_event, run_id, "notice", values["text"])

    def _forget_deleted(self) -> None:
        """Retention deletes folders in the ranks; the rows follow."""
        for row in self._registry.checkpoints(self._run.id):
            if not (self._run.path / row.path).is_dir():
                self._registry.drop_checkpoint(self._run.id, row.step)


def newest_checkpoint(run: RunFolder) -> int:
    """The newest committed step, 0 if there is none: how far a restart can count on."""
    if not run.checkpoints.is_dir():
        return 0
    names = (path.name for path in run.checkpoints.iterdir())
    steps = (name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))
    return max((int(step) for step in steps if step.isdigit()), default=0)


def _step_of(checkpoint: str, default: int) -> int:
    name = checkpoint.rpartition("/")[2]
    step = name.removeprefix(_PREFIX)
    return int(step) if name.startswith(_PREFIX) and step.isdigit() else default
