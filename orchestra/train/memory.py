"""Out of memory, told with the batch that did not fit and what helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from orchestra.config.schema import RunConfig
from orchestra.data import SAMPLE_RATE
from orchestra.data.batches import NAMED
from orchestra.tasks import Batch
from orchestra.wire.errors import OutOfMemoryError
from orchestra.wire.memory import OUT_OF_MEMORY


@contextmanager
def enough_memory(where: str, batch: Batch, remedy: str) -> Iterator[None]:
    """Turn "out of memory" into an OutOfMemoryError that names the batch.

    Args:
        remedy: for a batch of more than one utterance.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        longest_s = float(batch.lengths.max()) / SAMPLE_RATE
        count, more = len(batch.ids), len(batch.ids) - NAMED
        ids = ", ".join(batch.ids[:NAMED]) + (f" and {more} more" if more > 0 else "")
        if count == 1:
            remedy = "there is nothing to split: cut this utterance or leave it out of the split"
        raise OutOfMemoryError(
            f"out of memory in {where} of {count} x {longest_s:.1f} s of audio: {remedy}; "
            f"utterances: {ids}"
        ) from error


def training_remedy(config: RunConfig) -> str:
    """For a micro-batch of a step."""
    split = "" if config.launch.oom_split else " or set launch.oom_split = true"
    return f"lower batch.max_micro_seconds (now {config.batch.max_micro_seconds:g}){split}"


def evaluation_remedy(config: RunConfig) -> str:
    """For a batch that is predicted."""
    seconds = config.batch.eval_seconds or config.batch.max_micro_seconds
    return f"lower batch.eval_seconds (now {seconds:g})"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Not only torch's allocator on the GPU runs out, and others raise a plain RuntimeError."""
    told = OUT_OF_MEMORY.search(str(error)) is not None
    return told or isinstance(error, torch.OutOfMemoryError)
