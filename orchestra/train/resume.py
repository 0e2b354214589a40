"""Finds the checkpoint to continue from and puts everything back; what can't be restored raises."""

from __future__ import annotations

from orchestra.train import checkpoint
from orchestra.train.learner import Learner
from orchestra.train.progress import Fingerprint, Progress, from_document
from orchestra.train.session import Session
from orchestra.wire import checkpoints
from orchestra.wire.errors import UsageError
from orchestra.wire.heartbeat import Phase


def newest_step(session: Session) -> int:
    """Step of the newest good checkpoint; 0 if there is none.

    Raises:
        UsageError: the run was to end before that.
    """
    session.pulse.beat(0, Phase.CHECKPOINT)
    found = None
    if session.ranks.is_first:
        # One rank verifies and puts bad ones aside; the others trust its word.
        root = session.job.run.checkpoints
        found = checkpoint.newest_good(root, lambda text: session.recorder.notice(0, text))
    step = session.ranks.from_first(checkpoints.read_manifest(found).step if found else 0)
    max_steps = session.config.train.max_steps
    if max_steps is not None and step > max_steps:
        raise UsageError(
            f"train.max_steps is {max_steps}, but the newest checkpoint is of step {step}: "
            "resume with more steps, or from an older checkpoint"
        )
    return step


def restore(session: Session, learner: Learner, step: int, fingerprint: Fingerprint) -> Progress:
    """Load the checkpoint of `step`, which was verified; step 0 is the start and has none.

    Raises:
        UsageError, DataError: the checkpoint is of another model, plan or training split.
    """
    if step == 0:
        return Progress()
    contents = checkpoint.read(checkpoints.step_folder(session.job.run.checkpoints, step))
    progress = from_document(contents.state, fingerprint)
    learner.load(contents)
    learner.stepper.load_scaler_state(progress.loss_scale)
    return progress
