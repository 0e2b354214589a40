"""Two real ranks over gloo, of which rank 1 is late in every step after the first look at clocks.

Late means that it begins LATE_S after rank 0 has come to its backward pass, however slow that is.

exchange_ranks.py RANK STORE OUT    writes what test_communication.py compares
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from orchestra.train.communication import DdpExchange, Exchange, NoExchange

LATE_S = 0.1
ON_TIME, LATE = 12, 12
"""Steps; the exchange looks at the clocks in the 2nd, 12th and 22nd."""


def train(rank: int, arrivals: dist.Store, *, measured: bool) -> tuple[float, float, list[float]]:
    """Exposed time before and after rank 1 is late, and the weights at the end."""
    torch.manual_seed(0)
    wrapped = DistributedDataParallel(nn.Linear(64, 64))
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.01)
    wrapped(torch.ones(1, 64)).sum().backward()  # the warm-up
    optimizer.zero_grad()
    exchange: Exchange = DdpExchange(wrapped) if measured else NoExchange()
    found = []
    for late in (False, True):
        exposed_s = 0.0
        for step in range(LATE if late else ON_TIME):
            if late and measured and rank == 1:
                arrivals.wait([str(step)])
                time.sleep(LATE_S)
            loss = wrapped(torch.full((4, 64), float(rank + 1 + step))).square().mean()
            if late and measured and rank == 0:
                arrivals.set(str(step), "")
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            exposed_s = exchange.exposed_s()
        found.append(exposed_s)
    return found[0], found[1], [float(p.detach().double().sum()) for p in wrapped.parameters()]


def main() -> None:
    rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    arrivals = dist.FileStore(f"{store}.arrivals", 2)
    on_time_s, late_s, weights = train(rank, arrivals, measured=True)
    _, _, unmeasured = train(rank, arrivals, measured=False)
    answer = {
        "on_time_s": on_time_s,
        "late_s": late_s,
        "weights": weights,
        "unmeasured": unmeasured,
    }
    Path(f"{out}.{rank}").write_text(json.dumps(answer))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
