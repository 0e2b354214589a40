"""One all-reduce, checked and timed: what `orchestra doctor --gpus N` runs under torchrun.

Rank 0 prints one JSON object: ranks, backend, ok, bandwidth_bytes_per_s (0 on one rank).
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

_TIMEOUT = timedelta(seconds=60)
_REPEATS = 5
_NUMBERS = {"cuda": 2**24, "cpu": 2**21}  # float32


def main() -> int:
    """Take part as one rank; 1 if the sum is wrong."""
    local, ranks = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    backend = "nccl" if cuda else "gloo"
    dist.init_process_group(backend, timeout=_TIMEOUT, device_id=device if cuda else None)
    vector = torch.full((_NUMBERS[device.type],), float(dist.get_rank() + 1), device=device)
    dist.all_reduce(vector)
    ok = bool((vector == ranks * (ranks + 1) / 2).all())
    bandwidth = _bandwidth(vector, ranks)
    if dist.get_rank() == 0:
        said = {"ranks": ranks, "backend": backend, "ok": ok, "bandwidth_bytes_per_s": bandwidth}
        print(json.dumps(said), flush=True)
    dist.destroy_process_group()
    return 0 if ok else 1


def _bandwidth(vector: torch.Tensor, ranks: int) -> float:
    """Bytes per second over each rank's link, as NCCL's tests count them."""
    vector.zero_()
    _finish(vector)
    begin_s = time.perf_counter()
    for _ in range(_REPEATS):
        dist.all_reduce(vector)
    _finish(vector)
    taken_s = (time.perf_counter() - begin_s) / _REPEATS
    return vector.numel() * vector.element_size() / taken_s * 2 * (ranks - 1) / ranks


def _finish(vector: torch.Tensor) -> None:
    if vector.is_cuda:
        torch.cuda.synchronize()
    dist.barrier()


if __name__ == "__main__":
    sys.exit(main())
