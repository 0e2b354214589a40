"""The throw-away passes that precede the restored state in every attempt.

DDP rebuilds its buckets after the first backward pass of a process, and with three or more ranks
the buckets decide in which order gradients are summed. Without such a pass the first step after a
restart would sum in another order than the same step of a run that was never interrupted.

The batches are the largest of an epoch, so that what does not fit into memory shows at once, and
how long a pass may take.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from orchestra.config.schema import OptimConfig, RunConfig
from orchestra.tasks import Batch, LossTerms
from orchestra.train.memory import enough_memory, training_remedy
from orchestra.train.model import SpeechModel
from orchestra.train.precision import autocast
from orchestra.wire.errors import OrchestraError

_WHERE = "a forward and backward pass"


@dataclass(frozen=True)
class Warm:
    """What the passes told."""

    scalars: list[str]
    """Names of the task's scalars."""
    slowest_s: float
    """Wall-clock time of the slowest forward and backward pass."""


def warm_up(
    config: RunConfig,
    wrapped: nn.Module,
    model: SpeechModel,
    batches: Sequence[Batch],
    optimizer: Optimizer | None = None,
) -> Warm:
    """Forward, backward and gradient exchange on each batch, leaving no trace in the model.

    Gradients stay until the last pass, as those of a step's earlier micro-batches do. On a GPU
    what the optimizer is going to allocate is held meanwhile.

    Args:
        optimizer: the one at work, if training has begun; what it holds is not reserved again.

    Raises:
        OrchestraError: a trainable parameter gets no gradient; with several ranks DDP would hang.
        OutOfMemoryError: a batch does not fit into memory.
    """
    before = {name: tensor.to("cpu", copy=True) for name, tensor in model.saved_state().items()}
    scalars: list[str] = []
    slowest_s = 0.0
    remedy = training_remedy(config)
    for batch in batches:
        started = time.monotonic()
        with enough_memory(_WHERE, batch, remedy):
            reserved = _reserve(config.optim, model, optimizer)
            with autocast(config.train, batch.wavs.device):
                terms: LossTerms = wrapped(batch)
            terms.sum.backward()  # type: ignore[no-untyped-call]
            del reserved
        if batch.wavs.is_cuda:
            torch.cuda.synchronize()
        slowest_s = max(slowest_s, time.monotonic() - started)
        _require_gradients(model)
        scalars = sorted(terms.scalars)
    for parameter in model.parameters():
        parameter.grad = None
    model.load_saved_state(before)
    if any(parameter.is_cuda for parameter in model.parameters()):
        torch.cuda.empty_cache()  # the blocks of these passes suit no other tensors
    return Warm(scalars, slowest_s)


def _require_gradients(model: SpeechModel) -> None:
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise OrchestraError(
            f"{len(idle)} trainable parameters get no gradient: {', '.join(idle[:5])}; "
            "use them in the loss or set requires_grad to False"
        )


def _reserve(config: OptimConfig, model: SpeechModel, optimizer: Optimizer | None) -> list[Tensor]:
    """Memory on the GPU for the state that the optimizer makes in its first step."""
    state = {} if optimizer is None else optimizer.state
    waiting = [p for p in model.parameters() if p.requires_grad and p.is_cuda and p not in state]
    copies = state_copies(config)
    return [torch.empty_like(parameter) for parameter in waiting for _ in range(copies)]


def state_copies(config: OptimConfig) -> int:
    """How many tensors of a parameter's size the optimizer keeps for it."""
    if config.kind in ("adam", "adamw"):
        return 2
    return 1 if config.kind == "sgd" and config.momentum else 0
