"""The throw-away passes that precede the restored state in every attempt.

DDP rebuilds its buckets after the first backward pass of a process, and with three or more ranks
the buckets decide in which order gradients are summed. Without such a pass the first step after a
restart would sum in another order than the same step of a run that was never interrupted.

The batches are the largest of an epoch, so that what does not fit into memory shows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from orchestra.config.schema import OptimConfig, RunConfig
from orchestra.data import SAMPLE_RATE
from orchestra.data.batches import NAMED
from orchestra.tasks import Batch, LossTerms
from orchestra.train.model import SpeechModel
from orchestra.train.precision import autocast
from orchestra.wire.errors import OrchestraError, UsageError


def warm_up(
    config: RunConfig,
    wrapped: nn.Module,
    model: SpeechModel,
    batches: Sequence[Batch],
    optimizer: Optimizer | None = None,
) -> list[str]:
    """Forward, backward and gradient exchange on each batch, leaving no trace in the model.

    Gradients stay until the last pass, as those of a step's earlier micro-batches do. On a GPU
    what the optimizer is going to allocate is held meanwhile.

    Args:
        optimizer: the one at work, if training has begun; what it holds is not reserved again.

    Returns:
        The names of the task's scalars.

    Raises:
        OrchestraError: a trainable parameter gets no gradient; with several ranks DDP would hang.
        UsageError: a batch does not fit into memory.
    """
    before = {name: tensor.to("cpu", copy=True) for name, tensor in model.saved_state().items()}
    scalars: list[str] = []
    for batch in batches:
        with _enough_memory(config, batch):
            reserved = _reserve(config.optim, model, optimizer)
            with autocast(config.train, batch.wavs.device):
                terms: LossTerms = wrapped(batch)
            terms.sum.backward()  # type: ignore[no-untyped-call]
            del reserved
        _require_gradients(model)
        scalars = sorted(terms.scalars)
    for parameter in model.parameters():
        parameter.grad = None
    model.load_saved_state(before)
    if any(parameter.is_cuda for parameter in model.parameters()):
        torch.cuda.empty_cache()  # the blocks of these passes suit no other tensors
    return scalars


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


@contextmanager
def _enough_memory(config: RunConfig, batch: Batch) -> Iterator[None]:
    """Turn "out of memory" into a UsageError that names the batch and the remedy."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        longest_s = float(batch.lengths.max()) / SAMPLE_RATE
        count, more = len(batch.ids), len(batch.ids) - NAMED
        ids = ", ".join(batch.ids[:NAMED]) + (f" and {more} more" if more > 0 else "")
        if count > 1:
            remedy = f"lower batch.max_micro_seconds (now {config.batch.max_micro_seconds:g})"
        else:
            remedy = "cut this utterance or leave it out of the split"
        raise UsageError(
            f"out of memory in a forward and backward pass of {count} x {longest_s:.1f} s of "
            f"audio, one of the largest micro-batches of an epoch: {remedy}; utterances: {ids}"
        ) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    """The CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
