"""Two ranks over gloo that take steps of a float64 model with uneven micro-batches.

gradient_ranks.py RANK WORLD_SIZE STORE OUT     writes what test_step.py compares
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from orchestra.config.schema import RunConfig
from orchestra.tasks import Batch, LossTerms
from orchestra.train.distributed import Ranks
from orchestra.train.step import Stepper, wrap

MICRO_BATCHES = [3, 1, 7, 2]
"""Utterances in each micro-batch of a step."""
CLIP = 0.05


class Regression(nn.Module):
    """Sum of squared errors in float64; NaN where the batch is called so."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inner, self.outer = nn.Linear(5, 8).double(), nn.Linear(8, 1).double()
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, batch: Batch) -> LossTerms:
        errors = self.outer(torch.tanh(self.inner(batch.wavs))).squeeze(1) - batch.targets["y"]
        loss = (errors**2).sum()
        if batch.ids == ["nan"]:
            loss = loss * float("nan")
        return LossTerms(loss, torch.tensor(float(len(errors))), {"absolute": errors.abs().sum()})


def batch(number: int) -> Batch:
    """Micro-batch `number`."""
    generator = torch.Generator().manual_seed(100 + number)
    count = MICRO_BATCHES[number]
    x = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(count, generator=generator, dtype=torch.float64)
    return Batch([f"u{number}"], x, torch.full((count,), 5), {"y": y}, [0])


def nan_batch(number: int) -> Batch:
    good = batch(number)
    return Batch(["nan"], good.wavs, good.lengths, good.targets, [0])


def config(clip_norm: float) -> RunConfig:
    return RunConfig.model_validate_json(
        json.dumps(
            {
                "seed": 0,
                "task": {"kind": "regression"},
                "upstream": {"kind": "fbank"},
                "data": {},
                "batch": {"seconds": 1.0, "max_micro_seconds": 1.0, "micro_batches": 4},
                "optim": {"lr": 1.0, "clip_norm": clip_norm},
                "train": {"max_steps": 10, "eval_every": 10},
                "checkpoint": {"every": 10},
            }
        )
    )


def weights(model: nn.Module) -> list[float]:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    groups = [{"params": list(model.parameters()), "base_lr": 1.0}]
    return torch.optim.SGD(groups, lr=1.0)


def main() -> None:
    rank, world_size, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    ranks = Ranks(rank, world_size, torch.device("cpu"))
    numbers = range(rank, len(MICRO_BATCHES), world_size)
    answer: dict[str, object] = {}
    for clip_norm in (0.0, CLIP):
        model = Regression()
        wrapped = wrap(model, ranks)  # type: ignore[arg-type]
        stepper = Stepper(
            config(clip_norm),
            wrapped,
            optimizer_of(model),
            ranks,
            ["absolute"],
            lambda phase: None,
            10,
        )
        poisoned = (nan_batch(n) if n == 2 else batch(n) for n in numbers)
        before = weights(model)
        skipped = stepper.take(0, numbers, poisoned, stop=False, expired=False)
        assert not skipped.applied
        assert weights(model) == before
        taken = stepper.take(1, numbers, map(batch, numbers), stop=rank == 1, expired=False)
        answer[str(clip_norm)] = {
            "weights": weights(model),
            "norm": taken.grad_norm,
            "sums": taken.totals.sums,
            "weight": taken.totals.weight,
            "stop": taken.totals.stop,
        }
    Path(f"{out}.{rank}").write_text(json.dumps(answer))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
