"""A training run from the frozen config to the last checkpoint, on one rank.

`train` reads as the list of what happens. Knows nothing of processes, leases or the registry.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import islice

from torch import nn
from torch.optim import Optimizer

from orchestra.data.batches import Step
from orchestra.data.loader import Request, to_device
from orchestra.tasks import Batch
from orchestra.train.checkpoint import Contents
from orchestra.train.evaluation import Evaluator, Split, load_split
from orchestra.train.final import evaluate_tests
from orchestra.train.goals import Goal, best_goal
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.optim import build_optimizer, optimizer_tensors
from orchestra.train.progress import Progress, to_document
from orchestra.train.resume import restore
from orchestra.train.saving import Saver
from orchestra.train.session import Session
from orchestra.train.statistics import Clock, Window
from orchestra.train.step import Stepper, Taken, wrap
from orchestra.train.training_data import TrainingData, load_training_data
from orchestra.train.warmup import warm_up
from orchestra.wire.errors import DataError, NotFiniteError, UsageError
from orchestra.wire.heartbeat import Phase
from orchestra.wire.job import Result

NON_FINITE_LIMIT = 20
"""Skipped steps in a row after which the run fails."""


def train(session: Session) -> None:
    """Train to the end or to the stop flag; rank 0 commits the result.

    Raises:
        OrchestraError: the data, the task or the config can't be used, or the loss stays NaN.
        OSError: the run folder can't be written.
    """
    goal = best_goal(session.config, session.task.metrics)
    data = load_training_data(session)
    # Read now: a missing test split must not show after the last step.
    valid, *tests = (
        load_split(session.task, name, session.config)
        for name in (session.config.data.valid, *session.config.data.test)
    )
    model = build_model(session.config, session.task).to(session.ranks.device)
    wrapped = wrap(model, session.ranks)
    scalars = warm_up(session.config, wrapped, model, data.warm_up_batch(session.ranks.device))
    optimizer = build_optimizer(session.config, model)
    progress = restore(session, model, optimizer, data.fingerprint)
    _require_steps(progress.step, session.config.train.max_steps)
    trainer = Trainer(session, goal, data, valid, model, wrapped, optimizer, scalars, progress)
    outcome = trainer.run()
    if outcome.outcome == "completed" and not evaluate_tests(session, model, tests, progress.step):
        outcome = Result("stopped", progress.step)
    session.recorder.close()
    if session.ranks.is_first:
        outcome.write(session.attempt)
    session.pulse.beat(progress.step, Phase.DONE)


def _require_steps(step: int, max_steps: int) -> None:
    if step > max_steps:
        raise UsageError(
            f"train.max_steps is {max_steps}, but the newest checkpoint is of step {step}: "
            "resume with more steps, or from an older checkpoint"
        )


class Trainer:
    """The loop."""

    def __init__(
        self,
        session: Session,
        goal: Goal,
        data: TrainingData,
        valid: Split,
        model: SpeechModel,
        wrapped: nn.Module,
        optimizer: Optimizer,
        scalars: list[str],
        progress: Progress,
    ) -> None:
        self._session = session
        self._config = session.config
        self._ranks = session.ranks
        self._data = data
        self._valid = valid
        self._model = model
        self._optimizer = optimizer
        self._progress = progress
        self._goal = goal
        self._saver: Saver | None = None
        if self._ranks.is_first:
            root = session.job.run.checkpoints
            self._saver = Saver(root, self._config.checkpoint, self._goal, session.recorder)
        self._stepper = Stepper(
            self._config,
            wrapped,
            optimizer,
            self._ranks,
            scalars,
            self._beat,
            self._config.train.max_steps,
        )
        self._evaluator = Evaluator(
            self._config,
            session.task,
            model,
            self._ranks,
            tick=lambda: self._beat(Phase.EVALUATION),
            stop=session.stop_requested,
        )
        self._clock = Clock()
        self._window = Window()
        self._saved = (progress.step, progress.validated_step)

    def run(self) -> Result:
        """Every step that is left; saves before it returns."""
        progress, config = self._progress, self._config
        self._record_start()
        stop = not self._validate_if_due()
        steps = self._planned()
        batches = self._batches(self._planned())
        while progress.step < config.train.max_steps and not stop:
            step = next(steps)
            taken = self._take(step, batches)
            stop = taken.totals.stop
            if not stop:
                stop = not self._validate_if_due()
            if progress.step % config.checkpoint.every == 0 and not stop:
                self._save(must=False)
        self._save(must=True)
        return Result("stopped" if stop else "completed", progress.step)

    def _planned(self) -> Iterator[Step]:
        left = self._config.train.max_steps - self._progress.step
        return islice(self._data.planner.steps(self._progress.position), left)

    def _batches(self, steps: Iterator[Step]) -> Iterator[Batch]:
        """This rank's micro-batches of `steps`, on the device."""
        requests = (
            Request(step.position.epoch, step.micro_batches[number])
            for step in steps
            for number in self._share(step)
        )
        for batch in self._data.loader.batches(requests):
            yield to_device(batch, self._ranks.device)

    def _share(self, step: Step) -> range:
        """The numbers of this rank's micro-batches."""
        return range(self._ranks.rank, len(step.micro_batches), self._ranks.world_size)

    def _take(self, step: Step, batches: Iterator[Batch]) -> Taken:
        progress = self._progress
        started = time.monotonic()
        taken = self._stepper.take(
            progress.step,
            self._share(step),
            batches,
            stop=self._session.stop_requested(),
            expired=False,
        )
        progress.step += 1
        progress.position = step.following
        self._count_skipped(taken)
        elapsed_s = time.monotonic() - started
        self._clock.steps.add(elapsed_s)
        self._note(taken, self._data.planner.seconds_of(step), elapsed_s)
        return taken

    def _count_skipped(self, taken: Taken) -> None:
        """The same on all ranks: `taken` was agreed on."""
        progress = self._progress
        if taken.applied:
            progress.skipped_in_a_row = 0
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        text = f"step {progress.step}: loss or gradient is not finite; no update"
        self._session.recorder.notice(progress.step, text)
        if progress.skipped_in_a_row >= NON_FINITE_LIMIT:
            raise NotFiniteError(
                f"loss or gradient was not finite in {NON_FINITE_LIMIT} steps in a row, the last "
                f"is step {progress.step}; lower optim.lr or look at the data"
            )

    def _note(self, taken: Taken, audio_s: float, elapsed_s: float) -> None:
        """Add a step to the statistics; a record when it is time."""
        step, train = self._progress.step, self._config.train
        if taken.applied:
            self._window.add(taken.totals.weight, taken.totals.sums, audio_s, elapsed_s)
        first = self._clock.steps.count == 1
        if not (first or step % train.log_every == 0 or step == train.max_steps):
            return
        eta_s = self._clock.eta_s(
            step, train.max_steps, train.eval_every, self._config.checkpoint.every
        )
        values = {**self._window.means(), "lr": taken.lr, "grad_norm": taken.grad_norm}
        values |= {"eta_s": eta_s, "skipped": self._progress.skipped}
        self._session.recorder.write("train", step, values)
        self._window = Window()

    def _validate_if_due(self) -> bool:
        """Validate after every eval_every steps and the last; False if a stop came in between."""
        progress, train = self._progress, self._config.train
        due = progress.step % train.eval_every == 0 or progress.step == train.max_steps
        if progress.step == progress.validated_step or not due:
            return True
        started = time.monotonic()
        self._ranks.copy_from_first(list(self._model.saved_buffers()))
        scratch = self._session.scratch(f"validation-{progress.step}")
        evaluated = self._evaluator.evaluate(self._valid, scratch)
        if evaluated is None:
            return False
        if self._ranks.is_first:
            # Other ranks may still read this outcome, but they have long read the one before.
            for old in self._session.scratch("").glob("validation-*"):
                if old != scratch:
                    shutil.rmtree(old)
        values = {"split": self._valid.name, **evaluated.metrics}
        self._session.recorder.write("validation", progress.step, values)
        self._clock.validations.add(time.monotonic() - started)
        score = evaluated.metrics.get(self._goal.metric)
        if score is None:
            raise DataError(
                f"split {self._valid.name!r} has no labels: validation gave no {self._goal.metric}"
            )
        if progress.admit(score, self._goal.direction, self._config.checkpoint.keep_best):
            self._save(must=False)
        return True

    def _save(self, *, must: bool) -> None:
        """Every rank takes part, rank 0 writes what is not saved yet.

        A step is saved twice if a stop came in between it and its validation: the score is news.
        """
        progress = self._progress
        started = time.monotonic()
        self._beat(Phase.CHECKPOINT)
        self._ranks.copy_from_first(list(self._model.saved_buffers()))
        state = (progress.step, progress.validated_step)
        if self._saver is None or self._saved == state:
            return
        contents = Contents(
            self._model.saved_state(),
            optimizer_tensors(self._optimizer, self._model),
            to_document(progress, self._data.fingerprint),
        )
        score = progress.score if progress.validated_step == progress.step else None
        if self._saver.save(progress.step, contents, score, must=must):
            self._saved = state
        self._clock.saves.add(time.monotonic() - started)

    def _record_start(self) -> None:
        if not self._ranks.is_first:
            return
        parameters = list(self._model.parameters())
        values = {
            "step": self._progress.step,
            "max_steps": self._config.train.max_steps,
            "world_size": self._ranks.world_size,
            "micro_batches": self._config.batch.micro_batches,
            "parameters": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
            "data": {
                "split": self._config.data.train,
                "manifest_sha256": self._data.manifest_sha256,
            },
            "upstream": self._model.upstream.identity(),
        }
        self._session.recorder.write("start", self._progress.step, values)

    def _beat(self, phase: Phase) -> None:
        self._session.pulse.beat(self._progress.step, phase)
