"""Real ranks over gloo that take steps of the toy with uneven micro-batches.

gradient_ranks.py RANK WORLD_SIZE STORE OUT     writes what test_step.py compares
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from orchestra.train.distributed import Ranks
from orchestra.train.optim import build_optimizer
from orchestra.train.step import Stepper, Taken, wrap
from tests.train.toy import MICRO_BATCHES, Toy, batch, parts_of, toy_config

CLIP = 0.05
CASES: dict[str, dict[str, Any]] = {
    "float64": {"dtype": torch.float64},
    "float64 split": {"dtype": torch.float64, "split": 2},
    "float64 split in many": {"dtype": torch.float64, "split": 5},
    "float64 clipped": {"dtype": torch.float64, "clip_norm": CLIP},
    "float32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
}
FITTING_SCALE = 8.0
"""An fp16 loss scale that only a far batch is too much for."""


class Here:
    """One rank's model and stepper, and what it can tell about a step."""

    def __init__(
        self,
        ranks: Ranks,
        *,
        dtype: torch.dtype = torch.float32,
        clip_norm: float = 0.0,
        precision: str = "fp32",
        split: int = 1,
    ) -> None:
        self._split = split
        self.noted: list[Sequence[str]] = []
        self.model, self._ranks, self._dtype = Toy(dtype), ranks, dtype
        config = toy_config(
            optim={"kind": "sgd", "clip_norm": clip_norm}, train={"precision": precision}
        )
        self.optimizer = build_optimizer(config, self.model)
        wrapped = wrap(self.model, ranks)  # type: ignore[arg-type]
        self.stepper = Stepper(
            config,
            wrapped,
            self.optimizer,
            ranks,
            ["absolute"],
            lambda phase, promise_s: None,
            self.noted.append,
            10,
        )
        if precision == "fp16":
            fresh = self.stepper.scaler_state()
            self.stepper.load_scaler_state({**fresh, "scale": FITTING_SCALE})

    def take(self, kinds: dict[int, str] | None = None, **flags: bool) -> Taken:
        """A step; `kinds` of some micro-batches may be other than good."""
        own = range(self._ranks.rank, len(MICRO_BATCHES), self._ranks.world_size)
        pieces = [
            (n, part)
            for n in own
            for part in parts_of(
                batch(n, self._dtype, kind=(kinds or {}).get(n, "good")), self._split
            )
        ]
        numbers, batches = [n for n, _ in pieces], iter([part for _, part in pieces])
        return self.stepper.take(0, numbers, batches, **{"stop": False, "expired": False, **flags})

    def weights(self) -> dict[str, list[float]]:
        return {name: flat(p.detach()) for name, p in self.model.named_parameters()}


def flat(tensor: Tensor) -> list[float]:
    return tensor.double().flatten().tolist()


def applied_step(ranks: Ranks, **settings: Any) -> dict[str, Any]:
    """What a step of rate 1 takes from the weights: the gradient."""
    here = Here(ranks, **settings)
    before = {n: p.detach().clone() for n, p in here.model.named_parameters()}
    taken = here.take(stop=ranks.rank == 1)
    assert taken.applied
    after = dict(here.model.named_parameters())
    return {
        "gradient": {name: flat(before[name] - after[name].detach()) for name in before},
        "weights": here.weights(),
        "norm": taken.grad_norm,
        "sums": taken.totals.sums,
        "weight": taken.totals.weight,
        "stop": taken.totals.stop,
        "expired": taken.totals.expired,
    }


def skipped_step(ranks: Ranks, kind: str, precision: str) -> dict[str, Any]:
    """A step with one bad micro-batch, which rank 1 alone sees; then a good one."""
    here = Here(ranks, precision=precision, clip_norm=CLIP)
    before = {n: p.detach().clone() for n, p in here.model.named_parameters()}
    taken = here.take({1: kind})
    untouched = all(torch.equal(before[n], p) for n, p in here.model.named_parameters())
    scale = here.stepper.scaler_state().get("scale")
    return {
        "applied": taken.applied,
        "overflow": taken.overflow,
        "non_finite": taken.non_finite,
        "finite": taken.totals.finite,
        "untouched": untouched,
        "scale": scale,
        "then": here.take().applied,
        "weights": here.weights(),
    }


def exchanges(ranks: Ranks, split: int) -> int:
    """How often a step's gradients, which are one bucket, go through the network."""
    here, buckets = Here(ranks, split=split), []

    def counted(state, bucket):  # DDP can read no annotation that is a string
        buckets.append(bucket.index())
        return allreduce_hook(None, bucket)

    here.stepper.model.register_comm_hook(None, counted)
    assert here.take().applied
    return len(buckets)


def main() -> None:
    rank, world_size, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    ranks = Ranks(rank, world_size, torch.device("cpu"))
    answer = {
        "exchanges": [exchanges(ranks, split) for split in (1, 2)],
        "applied": {name: applied_step(ranks, **settings) for name, settings in CASES.items()},
        "skipped": {
            f"{kind} {precision}": skipped_step(ranks, kind, precision)
            for kind in ("nan", "inf", "bad gradient", "far")
            for precision in ("fp32", "bf16", "fp16")
        },
    }
    Path(f"{out}.{rank}").write_text(json.dumps(answer))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
