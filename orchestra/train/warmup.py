"""The throw-away step that precedes the restored state in every attempt.

DDP rebuilds its buckets after the first backward pass of a process, and with three or more ranks
the buckets decide in which order gradients are summed. Without this step the first step after a
restart would sum in another order than the same step of a run that was never interrupted.
"""

from __future__ import annotations

from torch import nn

from orchestra.config.schema import RunConfig
from orchestra.tasks import Batch, LossTerms
from orchestra.train.model import SpeechModel
from orchestra.train.precision import autocast
from orchestra.wire.errors import OrchestraError


def warm_up(config: RunConfig, wrapped: nn.Module, model: SpeechModel, batch: Batch) -> list[str]:
    """Forward, backward and gradient exchange on `batch`, leaving no trace in the model.

    Returns:
        The names of the task's scalars.

    Raises:
        OrchestraError: a trainable parameter gets no gradient; with several ranks DDP would hang.
    """
    before = {name: tensor.clone() for name, tensor in model.saved_state().items()}
    with autocast(config.train, batch.wavs.device):
        terms: LossTerms = wrapped(batch)
    terms.sum.backward()  # type: ignore[no-untyped-call]
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise OrchestraError(
            f"{len(idle)} trainable parameters get no gradient: {', '.join(idle[:5])}; "
            "use them in the loss or set requires_grad to False"
        )
    for parameter in model.parameters():
        parameter.grad = None
    model.load_saved_state(before)
    return sorted(terms.scalars)
