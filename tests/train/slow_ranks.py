"""Two ranks that evaluate over gloo, one of which takes longer than any collective may.

slow_ranks.py RANK STORE JOB OUT [collective]

Rank 1 predicts only after rank 0 has waited for twice the process group's timeout. With
`collective` ranks wait for each other in a barrier instead of for files. A rank that comes to the
end writes OUT.RANK.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from orchestra.config.frozen import read_frozen
from orchestra.train import evaluation, rendezvous
from orchestra.train.distributed import Ranks, _exchange_identities
from orchestra.train.model import build_model
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Phase
from tests.exactness.launching import WORKSPACE

TIMEOUT_S = 1.0


def main() -> None:
    rank, store, job, out = (
        int(sys.argv[1]),
        sys.argv[2],
        Job("train", Path(sys.argv[3])),
        sys.argv[4],
    )
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    cpu = torch.device("cpu")
    ranks = Ranks(rank, 2, cpu, _exchange_identities(rank, 2, cpu))
    config, info = read_frozen(job.config, WORKSPACE)
    task = info.task_class()(config.task, config.data)
    split = evaluation.load_split(task, "dev", config)
    model = build_model(config, task)
    long_enough = Path(f"{out}.long-enough")
    if rank == 1:
        task.predict = after(long_enough, ranks, task.predict)  # type: ignore[method-assign]
    if "collective" in sys.argv:
        rendezvous.Exchange.wait_for = lambda *_: dist.barrier()  # type: ignore[method-assign]
    dist.barrier()
    # Only now: the ranks' start may take longer.
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=TIMEOUT_S))
    started = time.monotonic()

    def beat(phase: Phase, promise_s: float) -> None:
        if rank == 0 and time.monotonic() - started > 2 * TIMEOUT_S:
            long_enough.touch()

    evaluator = evaluation.Evaluator(config, task, model, ranks, beat, lambda: False)
    evaluated = evaluator.evaluate(split, rendezvous.Exchange(Path(f"{out}.evaluation")))
    assert evaluated is not None
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=60))
    together = ranks.begin_sum(torch.ones(1))().item()  # the group is whole
    answer = {"metrics": evaluated.metrics, "together": together, "elapsed_s": evaluated.elapsed_s}
    Path(f"{out}.{rank}").write_text(json.dumps(answer))
    dist.destroy_process_group()


def after(path: Path, ranks: Ranks, predict: Any) -> Any:
    """`predict`, once `path` is there; ends this process if rank 0 is dead."""

    def wait_and_predict(*arguments: Any) -> Any:
        while not path.exists():
            if not ranks.peers[0].is_alive():
                os._exit(3)
            time.sleep(0.01)
        return predict(*arguments)

    return wait_and_predict


if __name__ == "__main__":
    main()
