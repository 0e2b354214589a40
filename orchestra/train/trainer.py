"""A training run from the frozen config to the last checkpoint, on one rank.

`train` reads as the list of what happens. Knows nothing of processes, leases or the registry.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from itertools import tee

from orchestra.data.batches import MicroBatch, Step, cut
from orchestra.data.loader import Request, to_device
from orchestra.tasks import Batch
from orchestra.train.capsule import Capsules
from orchestra.train.checkpoint import Contents
from orchestra.train.endings import Horizon, left, limit_reached, time_is_up, validation_due
from orchestra.train.evaluation import Split, drawn, load_split, require_labels
from orchestra.train.export import exporter
from orchestra.train.final import evaluate_tests
from orchestra.train.goals import best_goal, out_of_patience, stopping_goal
from orchestra.train.learner import Learner
from orchestra.train.learnt import learn
from orchestra.train.parameters import table_document
from orchestra.train.progress import Fingerprint, Progress
from orchestra.train.resume import newest_step, restore
from orchestra.train.saving import Saver
from orchestra.train.session import Session
from orchestra.train.silence import Silence
from orchestra.train.statistics import Meter
from orchestra.train.step import Taken
from orchestra.train.training_data import TrainingData, load_training_data
from orchestra.train.validation import Validator
from orchestra.wire.errors import NotFiniteError
from orchestra.wire.heartbeat import LONG_WRITE_S, Phase
from orchestra.wire.job import Result
from orchestra.wire.manifest import manifest_sha256

NON_FINITE_LIMIT = 20
"""Skipped steps in a row after which the run fails."""


def train(session: Session) -> None:
    """Train to the end or to the stop flag; rank 0 commits the result.

    Raises:
        OrchestraError: the data, the task or the config can't be used, or the loss stays NaN.
        OSError: the run folder can't be written.
    """
    config = session.config
    data = load_training_data(session)
    learn(session.task, data.utterances, session.job.run, writes=session.ranks.is_first)
    # Read now: a missing test split must not show after the last step.
    whole, *tests = (
        load_split(session.task, name, config) for name in (config.data.valid, *config.data.test)
    )
    require_labels(session.task, whole)
    valid = drawn(whole, config)
    trainer = Trainer(session, data, valid)
    outcome, features = trainer.run(), trainer.learner.features
    if outcome.outcome == "completed":
        splits = tests if valid is whole else [whole, *tests]
        if not evaluate_tests(session, trainer.learner.model, features, splits, outcome.step):
            outcome = Result("stopped", outcome.step)
    if features is not None:
        features.close()
    session.recorder.close()
    if session.ranks.is_first:
        outcome.write(session.attempt)
    session.pulse.beat(outcome.step, Phase.DONE)


class Trainer:
    """The loop, where the newest good checkpoint left it."""

    def __init__(self, session: Session, data: TrainingData, valid: Split) -> None:
        self._session = session
        self._config = config = session.config
        self._ranks = session.ranks
        self._data = data
        self._goal = best_goal(config, session.task.metrics)
        self._stopping = stopping_goal(config, session.task.metrics)
        self._fingerprint = Fingerprint.of(
            config, data.utterances, valid.utterances, data.augmentation
        )
        self._progress = Progress()
        self._horizon = Horizon.of(config.train, data.planner.steps_in(0))
        step = newest_step(session)
        self.learner = Learner(session, data, step, self._horizon.steps, self._beat)
        self._progress = restore(session, self.learner, step, self._fingerprint)
        self._validator = Validator(
            session,
            valid,
            self.learner.model,
            self.learner.average,
            [self._goal, *([self._stopping] if self._stopping else [])],
            self.learner.features,
            beat=self._beat,
        )
        self._saver: Saver | None = None
        if self._ranks.is_first:
            root = session.job.run.checkpoints
            export = exporter(session) if config.checkpoint.export_best else None
            self._saver = Saver(
                root,
                config.checkpoint,
                self._goal,
                session.recorder,
                lambda: self._beat(Phase.CHECKPOINT, LONG_WRITE_S),
                export,
            )
        self._capsules = Capsules(session, self.learner.model)
        self._silence = Silence(session)
        self._meter = Meter(self._ranks.device)
        self._reason = ""  # why the run ends before train.max_steps
        self._first_step = self._progress.step
        self._started = time.monotonic() - self._progress.elapsed_s

    def run(self) -> Result:
        """Every step that is left; saves before it returns."""
        progress, every = self._progress, self._config.checkpoint.every
        self._record_start()
        steps = self._data.planner.steps(progress.position)
        # Also after an error: what is being saved is told before this rank ends.
        with self._saver or nullcontext():
            ended = self._at_limit(time_is_up(self._config.train, progress.elapsed_s))
            stop = not self._validate_if_due(ended)
            ended = ended or self._gives_up()
            with closing(self._batches()) as batches:
                while not ended and not stop:
                    taken = self._take(next(steps), batches)
                    self._look_after_saves()
                    ended = self._at_limit(taken.totals.expired)
                    self._record_step(ended)
                    self._tell_silence(ended or taken.totals.stop)
                    stop = taken.totals.stop or not self._validate_if_due(ended)
                    ended = ended or self._gives_up()
                    if progress.step % every == 0 and not stop:
                        self._save(must=False)
            self._save(must=True)
        if stop:
            return Result("stopped", progress.step)
        return Result("completed", progress.step, self._reason)

    def _batches(self) -> Generator[Batch]:
        """This rank's micro-batches from here on, on the device; without end."""
        requests = (
            Request(step.position.epoch, part)
            for step in self._data.planner.steps(self._progress.position)
            for _, part in self._share(step)
        )
        asked, kept = tee(requests)
        batches = self._data.loader.batches(asked, self.learner.features)
        for batch, request in zip(batches, kept, strict=False):
            self._silence.met(request.epoch, batch.silent)
            yield to_device(batch, self._ranks.device)

    def _share(self, step: Step) -> list[tuple[int, MicroBatch]]:
        """This rank's micro-batches by number; one that is cut stands once for each part."""
        numbers = range(self._ranks.rank, len(step.micro_batches), self._ranks.world_size)
        split = self._data.split
        return [(n, part) for n in numbers for part in cut(step.micro_batches[n], split)]

    def _take(self, step: Step, batches: Iterator[Batch]) -> Taken:
        progress, learner = self._progress, self.learner
        started = time.monotonic()
        with self._capsules.on_error(progress.step, learner.stepper):
            taken = learner.take(
                progress.step,
                [number for number, _ in self._share(step)],
                batches,
                stop=self._session.stop_requested(),
                expired=self._ranks.is_first and time_is_up(self._config.train, self._elapsed_s()),
            )
        if not taken.applied:
            self._capsules.not_finite(progress.step, taken, learner.stepper.consumed)
        progress.step += 1
        progress.position = step.following
        self._count_skipped(taken)
        self._meter.step(
            taken,
            self._data.planner.seconds_of(step),
            time.monotonic() - started,
            learner.exchange.exposed_s(),
        )
        return taken

    def _count_skipped(self, taken: Taken) -> None:
        """The same on all ranks: `taken` was agreed on."""
        progress = self._progress
        if taken.overflow:
            progress.overflows += 1
            return
        if taken.applied:
            progress.skipped_in_a_row = 0
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        text = f"step {progress.step}: loss or gradient is not finite; no update"
        self._session.recorder.notice(progress.step, text)
        if progress.skipped_in_a_row >= NON_FINITE_LIMIT:
            culprit = self._capsules.culprit
            found = f": {culprit} is not finite" if culprit else ""
            raise NotFiniteError(
                f"loss or gradient was not finite in {NON_FINITE_LIMIT} steps in a row, the last "
                f"is step {progress.step}{found}; lower optim.lr or look at the data"
            )

    def _at_limit(self, expired: bool) -> bool:
        """Whether steps, epochs or hours are over; all ranks agree on `expired`."""
        train, step = self._config.train, self._progress.step
        key = "train.max_hours" if expired else limit_reached(train, step, self._epochs_done())
        if key and key != "train.max_steps":
            self._end_early(f"{key} = {train.limits()[key]:g} is over")
        return key is not None

    def _gives_up(self) -> bool:
        """Whether the validations so far say that it gets no better."""
        if not self._progress.is_validated():
            return False
        reason = self._reason_to_stop()
        if reason:
            self._end_early(f"early stopping: {reason}")
        return reason is not None

    def _end_early(self, reason: str) -> None:
        self._reason = reason
        self._session.recorder.notice(self._progress.step, reason)

    def _reason_to_stop(self) -> str | None:
        """The task's word on it counts, else the config's; None: train on."""
        progress, stopping, goal = self._progress, self._config.train.stopping, self._stopping
        history = [{**past.metrics, "step": past.step} for past in progress.validations]
        answer = self._session.task.stops_early(history)
        if answer is not None:
            return "the task says so" if answer else None
        if stopping is None or goal is None:
            return None
        scores = progress.scores(goal.metric)
        if not out_of_patience(scores, goal, stopping.patience, stopping.min_delta):
            return None
        return (
            f"{goal.metric} got no better in {stopping.patience} validations "
            "(train.stopping.patience)"
        )

    def _validate_if_due(self, ended: bool) -> bool:
        """Validate when it is time and at the end; False if a stop came in between."""
        progress, config = self._progress, self._config
        at_end = ended and not progress.is_validated()
        if not at_end and not validation_due(config.train, progress, self._epochs_done()):
            return True
        started = time.monotonic()
        metrics = self._validator.validate(progress.step)
        if metrics is None:
            return False
        progress.add_validation(self._epochs_done(), metrics)
        self._meter.validation(time.monotonic() - started)
        score = progress.score(self._goal.metric)
        # Rank 0 alone: validation has just made the buffers of all ranks its own.
        if self._saver and progress.step:
            self._beat(Phase.CHECKPOINT, LONG_WRITE_S)
            if self._saver.is_among_best(progress.step, score):
                self._hand_over(self._saver, must=False)
        return True

    def _save(self, *, must: bool) -> None:
        """Every rank takes part, rank 0 writes what is not saved yet.

        A step is saved twice if a stop came in between it and its validation: the score is news.
        """
        self._beat(Phase.CHECKPOINT, LONG_WRITE_S)
        self._ranks.copy_from_first(list(self.learner.model.saved_buffers()))
        if self._saver:
            self._hand_over(self._saver, must=must)

    def _hand_over(self, saver: Saver, *, must: bool) -> None:
        progress, started = self._progress, time.monotonic()
        score = progress.score(self._goal.metric)
        saver.save(progress.step, self._contents, score, must=must)
        self._meter.save(time.monotonic() - started)

    def _look_after_saves(self) -> None:
        """Once per step; after the first one the optimizer has all its tensors."""
        if self._saver is None:
            return
        self._saver.poll()
        if self._progress.step == self._first_step + 1:
            self._saver.prepare(self._contents())

    def _contents(self) -> Contents:
        progress = self._progress
        progress.loss_scale = self.learner.stepper.scaler_state()
        if self._config.train.max_hours is not None:
            progress.elapsed_s = self._elapsed_s()
        return self.learner.contents(progress, self._fingerprint)

    def _record_start(self) -> None:
        if not self._ranks.is_first:
            return
        config, recorder, step = self._config, self._session.recorder, self._progress.step
        for text in self._data.notices:
            recorder.notice(step, text)
        parts = self.learner.parts
        values = {
            "step": step,
            "max_steps": self._horizon.steps,
            "steps_per_epoch": self._horizon.steps_per_epoch,
            "world_size": self._ranks.world_size,
            "micro_batches": config.batch.micro_batches,
            "split": self._data.split,
            "parameters": sum(row.parameters for row in parts),
            "trainable": sum(row.trainable for row in parts),
            "parts": table_document(parts),
            "data": {"split": config.data.train, "manifest_sha256": self._data.manifest_sha256},
            "augmentation": {
                key: manifest_sha256(path.parent, path.stem)
                for key, path in config.augment.manifests().items()
            },
            "plan": self._data.plan,
            "upstream": self.learner.model.upstream.identity(),
        }
        recorder.write("start", step, values)

    def _record_step(self, ended: bool) -> None:
        """The numbers since the last record, when it is time; the first step has one of its own."""
        progress, log_every = self._progress, self._config.train.log_every
        first = progress.step == self._first_step + 1
        if not (first or ended or progress.step % log_every == 0):
            return
        to_come = left(self._config, self._horizon, progress, self._elapsed_s())
        values = {
            **self._meter.values(to_come),
            "epoch": self._epochs_done(),
            "skipped": progress.skipped,
        }
        self._session.recorder.write("train", progress.step, values)

    def _tell_silence(self, ends: bool) -> None:
        """At the end of each epoch and of the attempt."""
        position = self._progress.position
        if ends or position.index == 0:
            self._silence.tell(self._progress.step, before=position.epoch + (position.index > 0))

    def _elapsed_s(self) -> float:
        """Of all attempts that led here, as far as train.max_hours has it counted."""
        return time.monotonic() - self._started

    def _epochs_done(self) -> float:
        return self._data.planner.epochs_done(self._progress.position)

    def _beat(self, phase: Phase, promise_s: float = 0.0) -> None:
        self._session.pulse.beat(self._progress.step, phase, promise_s)
