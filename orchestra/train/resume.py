"""Finds the checkpoint to continue from and puts everything back; what can't be restored raises."""

from __future__ import annotations

from functools import partial

from orchestra.train import checkpoint
from orchestra.train.learner import Learner
from orchestra.train.progress import Fingerprint, Progress, from_document
from orchestra.train.session import Session
from orchestra.wire import checkpoints
from orchestra.wire.checkpoints import QUARANTINE
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.heartbeat import Phase

_ALL_BAD = -1


def newest_step(session: Session) -> int:
    """Step of the newest good checkpoint; 0 if none was ever saved.

    Raises:
        DataError: none of those that were saved is good; nothing of them is thrown away.
        UsageError: the run was to end before that.
    """
    session.pulse.beat(0, Phase.INIT)
    # One rank verifies and puts bad ones aside; the others trust its word.
    step = session.ranks.from_first(_newest_good(session) if session.ranks.is_first else 0)
    if step == _ALL_BAD:
        run = session.job.run
        raise DataError(
            f"no checkpoint of run {run.id} is good: see `orchestra checkpoints {run.id}`, then "
            f"start a new run (`orchestra run`); bad ones lie in {run.checkpoints / QUARANTINE}"
        )
    max_steps = session.config.train.max_steps
    if max_steps is not None and step > max_steps:
        raise UsageError(
            f"train.max_steps is {max_steps}, but the newest checkpoint is of step {step}: "
            "resume with more steps, or from an older checkpoint"
        )
    return step


def _newest_good(session: Session) -> int:
    """Its step; 0 if none was ever saved."""
    root, bad = session.job.run.checkpoints, list[str]()

    def alarm(text: str) -> None:
        bad.append(text)
        session.recorder.notice(0, text)

    # A phase of its own: the others wait for this rank alone.
    reading = partial(session.pulse.beat, 0, Phase.CHECKPOINT)
    found = checkpoint.newest_good(root, alarm, reading)
    if found is None:
        saved = checkpoints.committed(root) or any((root / QUARANTINE).glob("*"))
        return _ALL_BAD if saved else 0
    step = checkpoints.step_of(found)
    if bad:
        session.recorder.notice(step, f"continues from step {step}: newer checkpoints were bad")
    return step


def restore(session: Session, learner: Learner, step: int, fingerprint: Fingerprint) -> Progress:
    """Load the checkpoint of `step`, which was verified; step 0 is the start and has none.

    Raises:
        UsageError, DataError: the checkpoint is of another model, plan or training split.
    """
    if step == 0:
        return Progress()
    session.pulse.beat(0, Phase.INIT)
    contents = checkpoint.read(checkpoints.step_folder(session.job.run.checkpoints, step))
    progress = from_document(contents.state, fingerprint)
    learner.load(contents)
    learner.stepper.load_scaler_state(progress.loss_scale)
    return progress
