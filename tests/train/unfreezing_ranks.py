"""Two real ranks that unfreeze a part of the toy after a step, with and without wrapping anew.

unfreezing_ranks.py RANK STORE OUT     writes what test_freezing.py compares
"""

from __future__ import annotations

import json
import sys
import weakref
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from orchestra.config.schema import FreezeConfig
from orchestra.train.distributed import Ranks
from orchestra.train.freezing import Freezing
from orchestra.train.optim import build_optimizer
from orchestra.train.step import Stepper, wrap
from orchestra.train.warmup import warm_up
from tests.train.gradient_ranks import flat
from tests.train.toy import MICRO_BATCHES, Toy, batch, toy_config

DTYPE = torch.float64
RULE = FreezeConfig(parameters="inner", until_step=1)


def unfreeze(ranks: Ranks, *, wrap_anew: bool) -> dict[str, Any]:
    """Two steps of rate 1; the second trains the whole model."""
    config, model = toy_config(optim={"kind": "sgd"}), Toy(DTYPE)
    freezing = Freezing([RULE], model)
    optimizer = build_optimizer(config, model)
    freezing.apply(0)
    wrapped = wrap(model, ranks)
    scalars = warm_up(config, wrapped, model, [batch(0, DTYPE)]).scalars
    unheard = [lambda phase, promise_s: None, lambda ids: None]
    stepper = Stepper(config, wrapped, optimizer, ranks, scalars, *unheard, 10)
    old = weakref.ref(wrapped)
    del wrapped

    def take(number: int) -> None:
        numbers = range(ranks.rank, len(MICRO_BATCHES), ranks.world_size)
        batches = (batch(n, DTYPE) for n in numbers)
        assert stepper.take(number, numbers, batches, stop=False, expired=False).applied

    inner = model.inner.weight.detach().clone()
    take(0)
    assert torch.equal(inner, model.inner.weight)
    assert freezing.apply(1)
    stepper.model = wrap(model, ranks) if wrap_anew else stepper.model
    if wrap_anew:
        warm_up(config, stepper.model, model, [batch(0, DTYPE)])
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    take(1)
    after = dict(model.named_parameters())
    return {
        "before": {name: flat(tensor) for name, tensor in before.items()},
        "gradient": {name: flat(before[name] - after[name].detach()) for name in before},
        "old is gone": old() is None,
    }


def main() -> None:
    rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    ranks = Ranks(rank, 2, torch.device("cpu"))
    answer = {name: unfreeze(ranks, wrap_anew=name == "anew") for name in ("anew", "as it was")}
    Path(f"{out}.{rank}").write_text(json.dumps(answer))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
