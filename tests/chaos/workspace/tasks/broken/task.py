"""The example task, and faults on its way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from orchestra.tasks import Batch, LossTerms, Prediction, find_task

from . import faults

_Example: Any = find_task("example", Path("/nowhere")).task_class()
faults.strike("import")


class Head(nn.Module):
    """The example's, which may break while it is read back."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self._register_state_dict_hook(_strike_in_load)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(features, lengths)
        return logits


def _strike_in_load(*arguments: object) -> None:
    if faults.is_loading():
        faults.strike("load")


class Task(_Example):  # type: ignore[misc]
    def __init__(self, config: Any, data: Any) -> None:
        super().__init__(config, data)
        faults.slow_disk(config.fsync_s)
        faults.strike("init")
        faults.break_in_rendezvous()
        self._nan_for_good = False

    def build_head(self, dim: int, stride: int) -> nn.Module:
        return Head(super().build_head(dim, stride))

    def loss(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        terms: LossTerms = super().loss(head, features, lengths, batch)
        if torch.is_grad_enabled() and faults.is_step():
            if faults.due("forward") == "nan":
                faults.tell()
                self._nan_for_good = True
            else:
                faults.strike("forward")
        if self._nan_for_good:
            return replace(terms, sum=terms.sum * torch.nan)
        return terms

    def predict(
        self, head: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        faults.strike("predict")
        time.sleep(self.config.predict_s)
        records: list[Prediction] = super().predict(head, features, lengths, batch)
        return records

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        time.sleep(self.config.score_s)
        metrics: dict[str, float] = super().score(predictions)
        return metrics
