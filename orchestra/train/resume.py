"""Finds the checkpoint to continue from and puts everything back; what can't be restored raises."""

from __future__ import annotations

from torch.optim import Optimizer

from orchestra.train import checkpoint
from orchestra.train.model import SpeechModel
from orchestra.train.optim import load_optimizer
from orchestra.train.progress import Fingerprint, Progress, from_document
from orchestra.train.session import Session
from orchestra.wire import checkpoints
from orchestra.wire.heartbeat import Phase


def restore(
    session: Session, model: SpeechModel, optimizer: Optimizer, fingerprint: Fingerprint
) -> Progress:
    """Load the newest good checkpoint of the run into model and optimizer.

    Returns:
        Where the run stands; the start, if there is no checkpoint.

    Raises:
        UsageError, DataError: the checkpoint is of another model, plan or training split.
    """
    session.pulse.beat(0, Phase.CHECKPOINT)
    root = session.job.run.checkpoints
    found = None
    if session.ranks.is_first:
        # One rank verifies and puts bad ones aside; the others trust its word.
        found = checkpoint.newest_good(root, lambda text: session.recorder.notice(0, text))
    step = session.ranks.from_first(checkpoints.read_manifest(found).step if found else -1)
    if step < 0:
        return Progress()
    contents = checkpoint.read(checkpoints.step_folder(root, step))
    progress = from_document(contents.state, fingerprint)
    model.load_saved_state(contents.model)
    load_optimizer(optimizer, model, contents.optimizer)
    return progress
