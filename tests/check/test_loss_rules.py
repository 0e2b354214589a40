"""Rules on losses find the task that breaks them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestra.check.subject import Subject
from orchestra.wire.manifest import Utterance
from tests.check.finding import finding


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: replace(t, weight=torch.tensor(0.0)), "the weight is 0; it must be above 0"),
        (lambda t: replace(t, sum=t.sum * torch.inf), "the sum is inf"),
        (lambda t: replace(t, scalars={"x": torch.zeros(2)}), "x has shape (2,)"),
        (
            lambda t: replace(t, outputs=replace(t.outputs, weights=torch.ones(9))),
            "the weights of `outputs` sum up to 9, not 6",
        ),
        (lambda t: replace(t, sum=t.sum.detach()), "nothing is learnt from the sum"),
        (
            lambda t: replace(t, sum=t.sum + torch.sqrt(t.sum * 0)),
            "is not finite, although the loss is",
        ),
        (lambda t: replace(t, weight=6.0), "weight of loss() is of type float; give a tensor"),
        (lambda t: t.sum, "loss() is of type Tensor; give orchestra.tasks.LossTerms(sum, weight)"),
        (lambda t: None, "loss() is None; give orchestra.tasks.LossTerms"),
    ],
)
def test_loss_terms(sound: Subject, example: Any, change: Any, text: str) -> None:
    class Other(example):
        def loss(self, *given: Any) -> Any:
            return change(super().loss(*given))

    found = finding("loss", sound, Other)
    assert found.state == "broken" and text in found.text


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("ids", {"utterances": lambda self, s: [3]}, "an item of utterances('train') is of type"),
        (
            "ids",
            {"utterances": lambda self, s: [Utterance(1, Path("a"), 0.0, 1.0, {})]},
            "the id of an item of utterances('train') is of type int; give text",
        ),
        ("learnt", {"learn": lambda self, u: ["a"]}, "learn() is of type list; give a dict"),
        ("loss", {"build_head": lambda self, d, s: None}, "build_head() is None; give a torch.nn"),
        ("loss", {"collate": lambda self, t: {"labels": [1]}}, "collate()['labels'] is of type"),
        ("records", {"predict": lambda self, *given: "abc"}, "predict() is of type str; give a"),
        ("records", {"predict": lambda self, *given: ["a"]}, "an item of predict() is of type str"),
        ("score", {"refer": lambda self, p, u: None}, "refer() is None; give a dict"),
        ("score", {"score": lambda self, r: 3.0}, "score() is of type float; give a dict"),
        ("score", {"metrics": ["accuracy"]}, "metrics must name each metric as 'min' or 'max'"),
    ],
)
def test_what_is_not_of_its_kind(
    sound: Subject, example: Any, name: str, change: dict[str, Any], text: str
) -> None:
    found = finding(name, sound, type("Other", (example,), change))
    assert found.state == "broken" and text in found.text


def test_a_parameter_that_learns_nothing(sound: Subject, example: Any) -> None:
    class Idle(example):
        def build_head(self, dim: int, stride: int) -> Any:
            head = super().build_head(dim, stride)
            head.spare = torch.nn.Linear(2, 2)
            return head

    assert "2 parameters get no gradient (head.spare.weight" in finding("loss", sound, Idle).text


def test_a_mean_is_no_sum(sound: Subject, example: Any) -> None:
    class Mean(example):
        def loss(self, *given: Any) -> Any:
            terms = super().loss(*given)
            return replace(terms, sum=terms.sum / terms.weight)

    found = finding("loss adds up", sound, Mean)
    assert found.state == "broken" and "give sums, not means" in found.text

    class Less(example):
        def loss(self, *given: Any) -> Any:
            terms = super().loss(*given)
            return replace(terms, weight=terms.weight - 1)

    text = finding("loss adds up", sound, Less).text
    assert "alone is 0; it must be above 0 in every batch" in text and "train-000" in text

    class Some(example):
        def loss(self, *given: Any) -> Any:
            terms = super().loss(*given)
            return terms if float(terms.weight) > 1 else replace(terms, scalars={})

    assert "'train_accuracy' is missing in some" in finding("loss adds up", sound, Some).text


def heedless(example: Any) -> Any:
    """The task with a head that looks at padding."""

    class Heedless(example):
        def build_head(self, dim: int, stride: int) -> Any:
            head = super().build_head(dim, stride)
            own = head.forward
            head.forward = lambda features, lengths: own(
                features - features.mean((1, 2), keepdim=True), lengths
            )
            return head

    return Heedless


def test_padding(sound: Subject, example: Any) -> None:
    for name, what in (("loss and padding", "loss: "), ("predict and padding", "prediction of ")):
        found = finding(name, sound, heedless(example))
        assert found.state == "broken" and what in found.text
        assert "with other padding: mask it by the lengths" in found.text


def test_randomness_of_its_own(sound: Subject, example: Any) -> None:
    class Drawing(example):
        generator = np.random.default_rng(0)

        def loss(self, head: Any, features: Any, *given: Any) -> Any:
            noise = torch.from_numpy(self.generator.standard_normal(features.shape[2]))
            return super().loss(head, features + noise.float(), *given)

    found = finding("loss and seeds", sound, Drawing)
    assert found.state == "broken" and "draw from batch.seeds" in found.text

    class Counting(example):
        calls = 0

        def loss(self, *given: Any) -> Any:
            self.calls += 1
            terms = super().loss(*given)
            return replace(terms, sum=terms.sum * self.calls)

    assert (
        "after another batch with the same seeds" in finding("loss and seeds", sound, Counting).text
    )
