"""A model of a few numbers, its config and its batches: what optimisation is tested with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from orchestra.config.schema import RunConfig
from orchestra.data.batches import cut
from orchestra.tasks import Batch, LossTerms

MICRO_BATCHES = [3, 1, 7, 2, 5, 4]
"""Utterances in each micro-batch of a step."""


class Toy(nn.Module):
    """Sum of squared errors; a batch's id may ask for something that is not finite."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inner, self.outer = nn.Linear(5, 8), nn.Linear(8, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.to(dtype)
        self._in_eval: Sequence[nn.Module] = ()

    def forward(self, batch: Batch) -> LossTerms:
        outputs = self.outer(torch.tanh(self.inner(batch.wavs))).squeeze(1)
        errors = outputs.to(batch.wavs.dtype) - batch.targets["y"]
        loss = (errors**2).sum()
        if batch.ids[0] in ("nan", "inf"):
            loss = loss * float(batch.ids[0])
        if batch.ids == ["bad gradient"]:  # of a root at 0, though the root itself is fine
            loss = loss + (0.0 * self.outer.bias.abs().sum()).sqrt()
        return LossTerms(loss, torch.tensor(float(len(errors))), {"absolute": errors.abs().sum()})

    def keep_in_eval(self, modules: Sequence[nn.Module]) -> None:
        self._in_eval = modules

    def saved_state(self) -> dict[str, Tensor]:
        return self.state_dict()

    def load_saved_state(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)


def batch(number: int, dtype: torch.dtype = torch.float32, *, kind: str = "good") -> Batch:
    """Micro-batch `number`."""
    generator = torch.Generator().manual_seed(100 + number)
    count = MICRO_BATCHES[number]
    x = torch.randn(count, 5, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randn(count, generator=generator, dtype=torch.float64).to(dtype)
    if kind == "far":  # the loss is finite, its gradient too large for scaled fp16
        y = y + 1e4
    return Batch([kind], x, torch.full((count,), 5), {"y": y}, [0])


def parts_of(whole: Batch, split: int) -> list[Batch]:
    """What a loader makes of it where micro-batches are cut."""
    return [
        replace(whole, wavs=whole.wavs[rows], targets={"y": whole.targets["y"][rows]})
        for rows in map(list, cut(tuple(range(len(whole.wavs))), split))
    ]


def toy_config(**tables: dict[str, Any]) -> RunConfig:
    """`tables` override single keys."""
    document: dict[str, Any] = {
        "seed": 0,
        "task": {"kind": "regression"},
        "upstream": {"kind": "fbank"},
        "data": {},
        "batch": {"seconds": 1.0, "max_micro_seconds": 1.0, "micro_batches": len(MICRO_BATCHES)},
        "optim": {"lr": 1.0, "clip_norm": 0.0},
        "train": {"max_steps": 10, "eval_every": 10},
        "checkpoint": {"every": 10},
    }
    for name, table in tables.items():
        kept = {} if name == "upstream" else document.get(name, {})
        document[name] = {**kept, **table}
    return RunConfig.model_validate_json(json.dumps(document))


def gradients_by_name(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
