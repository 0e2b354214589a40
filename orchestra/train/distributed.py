"""This rank among the others: device, process group, the few exchanges that training needs.

Nothing here waits for slow work of another rank: see rendezvous.py for that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from orchestra.config.schema import LaunchConfig
from orchestra.wire.identity import start_ticks

# Hangs are for the supervisor to notice; a timeout of ours would only kill slow, healthy runs.
TIMEOUT = timedelta(days=7)


@dataclass(frozen=True)
class Peer:
    """Another rank's process on this machine."""

    rank: int
    pid: int
    start_ticks: int

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return start_ticks(self.pid) == self.start_ticks


@dataclass(frozen=True)
class Ranks:
    """This rank and its peers. With one rank there is no process group and nothing to exchange."""

    rank: int
    world_size: int
    device: torch.device
    peers: tuple[Peer, ...] = ()
    """All ranks, by rank; empty with one rank."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def begin_sum(self, vector: Tensor) -> Callable[[], Tensor]:
        """Begin to sum the ranks' vectors in place; what is returned waits for the result."""
        if self.world_size == 1:
            return lambda: vector
        work = dist.all_reduce(vector, async_op=True)

        def finish() -> Tensor:
            work.wait()
            return vector

        return finish

    def from_first(self, value: int) -> int:
        """Rank 0's value; what the others pass is ignored."""
        if self.world_size == 1:
            return value
        box = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(box, 0)
        return int(box.item())

    def copy_from_first(self, tensors: list[Tensor]) -> None:
        """Overwrite the tensors by rank 0's."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


def join(config: LaunchConfig) -> Ranks:
    """Meet the other ranks that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK); alone without."""
    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(config.threads)
    device = torch.device("cpu")
    if config.device == "gpu":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if world_size == 1:
        return Ranks(rank, world_size, device)
    if device.type == "cuda":
        dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT)
    return Ranks(rank, world_size, device, _exchange_identities(rank, world_size, device))


def leave(ranks: Ranks) -> None:
    """Close the process group; only after success, since it may wait for the others."""
    if ranks.world_size > 1:
        dist.destroy_process_group()


def _exchange_identities(rank: int, world_size: int, device: torch.device) -> tuple[Peer, ...]:
    mine = torch.tensor([os.getpid(), cast(int, start_ticks(os.getpid()))], device=device)
    boxes = [torch.empty_like(mine) for _ in range(world_size)]
    dist.all_gather(boxes, mine)
    return tuple(Peer(n, int(box[0]), int(box[1])) for n, box in enumerate(boxes))
