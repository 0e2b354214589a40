"""Puts the global random generators where a position says.

So nothing random is saved in a checkpoint, and workers, prefetch, restarts and the number of ranks
don't matter.
"""

from __future__ import annotations

import random

import numpy as np
import torch

from orchestra.data.keyed import keyed


def reseed(seed: int, *key: int | str) -> None:
    """Key the global generators of torch (all devices), NumPy and Python."""
    value = keyed(seed, *key)
    torch.manual_seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    random.seed(value)
