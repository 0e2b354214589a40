"""Puts the global random generators where a position says.

So nothing random is saved in a checkpoint, and workers, prefetch, restarts and the number of ranks
don't matter.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
import torch

from orchestra.data.keyed import keyed


def with_parts(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(number, part) of micro-batches; one that is cut stands in `numbers` once for each part."""
    for number, alike in groupby(numbers):
        yield from ((number, part) for part, _ in enumerate(alike))


def reseed_step(seed: int, step: int, number: int, part: int) -> None:
    """For a micro-batch of a step, or a part of one; the first part is like a whole one."""
    reseed(seed, "step", step, number, *([part] if part else []))


def reseed(seed: int, *key: int | str) -> None:
    """Key the global generators of torch (all devices), NumPy and Python."""
    value = keyed(seed, *key)
    # The same as torch.manual_seed, which notes a stack trace for each kind of device that is not
    # in use: 0.3 ms.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(value)
    np.random.seed(value & 0xFFFFFFFF)
    random.seed(value)
