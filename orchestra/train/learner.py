"""What learns: the model and everything that changes it in a step.

Built in the order that exact resume needs: initial weights, what is ever trained, what is frozen at
the step to continue from, wrapping, the throw-away step; then the checkpoint is loaded over it.
Knows no limits, no records and no files of checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestra.tasks import Batch
from orchestra.train import learnt
from orchestra.train.average import build_average
from orchestra.train.checkpoint import Contents
from orchestra.train.communication import Exchange, NoExchange, exchange_of
from orchestra.train.features import open_features
from orchestra.train.freezing import Freezing
from orchestra.train.model import build_model
from orchestra.train.optim import build_optimizer, load_optimizer, optimizer_tensors
from orchestra.train.parameters import parameter_table
from orchestra.train.progress import Fingerprint, Progress, to_document
from orchestra.train.session import Session
from orchestra.train.step import Stepper, Taken, wrap
from orchestra.train.training_data import TrainingData
from orchestra.train.warmup import Warm, warm_up
from orchestra.train.weights import (
    UPSTREAM,
    frozen_hashes,
    load_initial,
    require_same_upstream,
)
from orchestra.wire.heartbeat import Phase

_SLOWER = 5.0
"""So many times as long as the slowest pass of the warm-up any other may take."""


class Learner:
    """Made once per attempt.

    Args:
        step: where the run stands; what is frozen follows from it.
        total_steps: of the whole run, for the learning rate; None where only the clock ends it.
        beat: told the phase that begins, and what it promises.

    Raises:
        UsageError: the config does not fit the model.
        OutOfMemoryError: the largest batch does not fit into memory.
    """

    def __init__(
        self,
        session: Session,
        data: TrainingData,
        step: int,
        total_steps: int | None,
        beat: Callable[[Phase, float], None],
    ) -> None:
        config = session.config
        beat(Phase.INIT, 0.0)
        self._config = config
        self._beat = beat
        self._ranks = session.ranks
        self._recorder = session.recorder
        self._data = data
        self._learnt = learnt.read(session.job.run)
        self.model = build_model(config, session.task)
        if step == 0:  # later the checkpoint has it all
            load_initial(session, self.model)
        self.model.to(session.ranks.device)
        self._number = step
        self.features = open_features(session, self.model, lambda: self._number)
        """The cache of the upstream's features, if there is one."""
        self._buffers = list(self.model.saved_buffers())
        self._freezing = Freezing(config.optim.freeze, self.model)
        self.optimizer = build_optimizer(config, self.model)
        self.average = build_average(config.optim, self.model)
        self._freezing.apply(step)
        self.parts = parameter_table(self.model, self._freezing.later())  # as trained now
        batches = self._worst_batches()  # before the ranks meet in `wrap`: no pass waits for them
        wrapped = wrap(self.model, self._ranks)
        warm = warm_up(config, wrapped, self.model, batches)
        self.exchange: Exchange = exchange_of(wrapped)
        self.stepper = Stepper(
            config,
            wrapped,
            self.optimizer,
            self._ranks,
            warm.scalars,
            beat,
            session.pulse.note_samples,
            total_steps,
        )
        self.stepper.promise_s = self._promise_s(warm)

    def take(
        self,
        number: int,
        numbers: Sequence[int],
        batches: Iterator[Batch],
        *,
        stop: bool,
        expired: bool,
    ) -> Taken:
        """Step `number` (see Stepper.take)."""
        self._number = number
        if self._freezing.apply(number):
            self._tell_what_is_trained(number)
            self._wrap_anew()
        before = [buffer.clone() for buffer in self._buffers]
        taken = self.stepper.take(number, numbers, batches, stop=stop, expired=expired)
        if taken.applied:
            self.average.update()
        else:  # a NaN has gone through the batch norms' running statistics
            for buffer, value in zip(self._buffers, before, strict=True):
                buffer.copy_(value)
        return taken

    def contents(self, progress: Progress, fingerprint: Fingerprint) -> Contents:
        """Everything that a checkpoint holds; the tensors are the live ones."""
        return Contents(
            self.model.saved_state(),
            optimizer_tensors(self.optimizer, self.model),
            {
                **to_document(progress, fingerprint),
                "learnt": self._learnt,
                UPSTREAM: frozen_hashes(self.model.upstream),
            },
            self.average.tensors(),
        )

    def load(self, contents: Contents) -> None:
        """Put the tensors of a checkpoint back.

        Raises:
            UsageError: they are of another model, or were trained on another frozen upstream.
        """
        require_same_upstream(contents.state.get(UPSTREAM, {}), self.model)
        self.model.load_saved_state(contents.model)
        load_optimizer(self.optimizer, self.model, contents.optimizer)
        self.average.load(contents.average)

    def _tell_what_is_trained(self, number: int) -> None:
        before, self.parts = self.parts, parameter_table(self.model, self._freezing.later())
        added = ", ".join(
            f"{now.part} ({now.trainable - was.trainable:,} parameters)"
            for was, now in zip(before, self.parts, strict=True)
            if now.trainable > was.trainable
        )
        self._recorder.notice(number, f"trained from here on, optim.freeze: {added}")

    def _wrap_anew(self) -> None:
        """DDP knows only the parameters that were trainable when it wrapped the model."""
        self._beat(Phase.INIT, 0.0)
        # The old wrapper goes first, and its hooks with it.
        self.stepper.model, self.exchange = self.model, NoExchange()
        batches = self._worst_batches()
        wrapped = wrap(self.model, self._ranks)
        warm = warm_up(self._config, wrapped, self.model, batches, self.optimizer)
        self.stepper.model, self.exchange = wrapped, exchange_of(wrapped)
        self.stepper.promise_s = self._promise_s(warm)

    def _promise_s(self, warm: Warm) -> float:
        """None where the usual deadline leaves time enough."""
        promise_s = _SLOWER * warm.slowest_s
        return promise_s if promise_s > self._config.launch.step_deadline_s else 0.0

    def _worst_batches(self) -> list[Batch]:
        return self._data.worst_batches(self._ranks.device, self.features)
