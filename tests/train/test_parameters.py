from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestra.train.parameters import Row, parameter_table, table_document


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.upstream = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
        self.featurizer = nn.Linear(1, 3, bias=False)
        self.head = nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))


def test_parts_in_the_models_order() -> None:
    model = Model()
    model.upstream.requires_grad_(False)
    assert parameter_table(model) == [
        Row("upstream", 220, 0),
        Row("featurizer", 3, 3),
        Row("head.0", 44, 44),
        Row("head.2", 8, 8),
    ]


def test_the_table_counts_as_the_model_does() -> None:
    model = Model()
    model.head[0].bias.requires_grad_(False)
    model.head[2].weight = nn.Parameter(torch.zeros(4, 4))
    model.head.register_parameter("tied", model.head[2].weight)
    model.head.register_parameter("own", nn.Parameter(torch.zeros(5)))
    rows = parameter_table(model)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())
    assert sum(row.trainable for row in rows) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    assert {row.part for row in rows} >= {"head", "head.0"}


def test_shares_are_of_the_whole() -> None:
    document = table_document(parameter_table(Model()))
    assert sum(row["share"] for row in document) == pytest.approx(1)
    upstream = {"part": "upstream", "parameters": 220, "trainable": 220, "later": 0, "share": 0.8}
    assert document[0] == upstream
