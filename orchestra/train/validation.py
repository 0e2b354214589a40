"""Validation while training: on all ranks, with the averaged weights if there are any, recorded.

Knows when a split is validated and on which utterances; what a score decides is the loop's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestra.data.feature_store import FeatureStore
from orchestra.train.average import Average, NoAverage
from orchestra.train.evaluation import Evaluator, Split
from orchestra.train.goals import Goal
from orchestra.train.model import SpeechModel
from orchestra.train.rendezvous import Exchange
from orchestra.train.session import Session
from orchestra.train.silence import tell_silence
from orchestra.wire.errors import DataError
from orchestra.wire.heartbeat import Phase


class Validator:
    """Evaluates one split again and again.

    Args:
        goals: their metrics must be among what the split's score gives.
        features: the cache of the upstream's features, if there is one.
        beat: called by every rank all the time with its phase and what it promises.
    """

    def __init__(
        self,
        session: Session,
        split: Split,
        model: SpeechModel,
        average: Average | NoAverage,
        goals: list[Goal],
        features: FeatureStore | None,
        beat: Callable[[Phase, float], None],
    ) -> None:
        self._session = session
        self._split = split
        self._model = model
        self._average = average
        self._goals = goals
        self._evaluator = Evaluator(
            session.config,
            session.task,
            model,
            session.ranks,
            beat=beat,
            stop=session.stop_requested,
            features=features,
        )
        self._before: Exchange | None = None
        self._told_silence = False

    def validate(self, step: int) -> dict[str, float] | None:
        """The metrics with the weights of now; None on all ranks if a stop came in between.

        Raises:
            DataError: the split has no labels, an utterance can't be read.
            DiskFullError: neither the disk nor the memory behind /dev/shm has room.
        """
        session = self._session
        session.ranks.copy_from_first(list(self._model.saved_buffers()))
        # A full disk does not end a training that may go on without what it can't save.
        files = Exchange(session.scratch(f"validation-{step}"), spare=session.pulse.folder)
        with self._average.applied():
            evaluated = self._evaluator.evaluate(self._split, files)
        if evaluated is None:
            return None
        if session.ranks.is_first:
            # Other ranks may still read this outcome, but they have long read the one before.
            if self._before is not None:
                self._before.remove()
            self._before = files
        split = self._split
        values: dict[str, Any] = {"split": split.name}
        if split.drawn_from is not None:
            values["on"] = f"{len(split.utterances)} of {split.drawn_from} utterances"
        values |= {**evaluated.metrics, **evaluated.speed}
        session.recorder.write("validation", step, values)
        if not self._told_silence:  # the utterances are the same each time
            tell_silence(session.recorder, step, f"split {split.name!r}", evaluated.silent)
            self._told_silence = True
        self._require_goals(evaluated.metrics)
        return evaluated.metrics

    def _require_goals(self, metrics: dict[str, float]) -> None:
        for goal in self._goals:
            if goal.metric not in metrics:
                raise DataError(
                    f"split {self._split.name!r} has no labels: validation gave no {goal.metric}"
                )
