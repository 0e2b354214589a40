"""Rules on predictions and scores find the task that breaks them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from orchestra.check.subject import Subject
from orchestra.wire.errors import DataError
from tests.check.finding import finding


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda records: records[1:], "one for each, with its id"),
        (lambda records: [*records, records[0]], "one for each, with its id"),
        (lambda records: [{**r, "id": "x"} for r in records], "predict gives records of ['x'"),
        (
            lambda records: [{**r, "s": torch.tensor(1)} for r in records],
            "can't be written as JSON",
        ),
        (lambda records: [{**r, "s": float("nan")} for r in records], "can't be written as JSON"),
        (lambda records: [{**r, "s": {1: 2}} for r in records], "is changed by JSON"),
    ],
)
def test_records(sound: Subject, example: Any, change: Any, text: str) -> None:
    class Other(example):
        def predict(self, *given: Any) -> Any:
            return change(super().predict(*given))

    found = finding("records", sound, Other)
    assert found.state == "broken" and text in found.text


def test_a_prediction_is_the_same_each_time(sound: Subject, example: Any) -> None:
    class Dropping(example):
        def predict(self, head: Any, features: Any, *given: Any) -> Any:
            torch.nn.functional.dropout(features, 0.1)
            return super().predict(head, features, *given)

    assert "predict draws random numbers" in finding("records", sound, Dropping).text

    class Counting(example):
        calls = 0

        def predict(self, *given: Any) -> Any:
            self.calls += 1
            return [{**record, "at": 1e9 + self.calls} for record in super().predict(*given)]

    assert "the second time: keep no state" in finding("records", sound, Counting).text


@pytest.mark.parametrize(
    ("name", "spoil", "what"),
    [
        ("loss", lambda head, features, batch: features.mul_(0.5), "features"),
        ("loss", lambda head, features, batch: batch.targets["labels"].zero_(), "labels"),
        ("predict", lambda head, features, batch: batch.utterances.clear(), "batch's utterances"),
        (
            "predict",
            lambda head, features, batch: next(head.parameters()).data.add_(1.0),
            "head's ",
        ),
    ],
)
def test_what_is_given_stays_as_it_is(
    sound: Subject, example: Any, name: str, spoil: Any, what: str
) -> None:
    def spoiling(self: Any, head: Any, features: Any, lengths: Any, batch: Any) -> Any:
        answer = getattr(example, name)(self, head, features, lengths, batch)
        spoil(head, features, batch)
        return answer

    found = finding(f"{name} and inputs", sound, type("Other", (example,), {name: spoiling}))
    assert found.state == "broken" and f"{name} changes the {what}" in found.text


def test_neighbours_and_earlier_batches(sound: Subject, example: Any) -> None:
    class Counting(example):
        def predict(self, *given: Any) -> Any:
            records = super().predict(*given)
            return [{**record, "of": len(records)} for record in records]

    assert (
        "of is 6, then 1 alone: look at no neighbour"
        in finding("predict and neighbours", sound, Counting).text
    )

    class Remembering(example):
        seen = 0

        def predict(self, *given: Any) -> Any:
            records = super().predict(*given)
            self.seen += len(records)
            return [{**record, "seen": self.seen} for record in records]

    assert "on 2 ranks" in finding("ranks", sound, Remembering).text


def test_predictions_that_need_labels_or_a_corpus(sound: Subject, example: Any) -> None:
    class Peeking(example):
        def predict(self, head: Any, features: Any, lengths: Any, batch: Any) -> Any:
            records = super().predict(head, features, lengths, batch)
            labels = [utterance.fields.get("label", -1) for utterance in batch.utterances]
            return [{**r, "predicted": label} for r, label in zip(records, labels, strict=True)]

    found = finding("predict without labels", sound, Peeking)
    assert found.state == "broken" and "what `score` needs is added by `refer`" in found.text

    class Naming(example):
        def predict(self, *given: Any) -> Any:
            return [{**record, "as": record["id"]} for record in super().predict(*given)]

    found = finding("predict without labels", sound, Naming)
    assert found.state == "broken" and "under another id and without labels" in found.text

    class Demanding(example):
        def collate(self, targets: Any) -> Any:
            return {"labels": torch.tensor([0 if each is None else each for each in targets])}

    assert (
        "collate gives ['labels'] for utterances without labels"
        in finding("predict without labels", sound, Demanding).text
    )

    class Rooted(example):
        def build_head(self, dim: int, stride: int) -> Any:
            if self.data.root is not None:
                raise DataError(f"{self.data.root} is gone")
            return super().build_head(dim, stride)

    found = finding("predict without corpus", sound, Rooted)
    assert found.state == "broken" and found.text == "/nowhere is gone"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metrics": {"accuracy": "up"}}, "metrics must name each metric as 'min' or 'max'"),
        ({"metrics": {}}, "metrics must name each metric"),
        ({"metrics": {"accuracy": "max", "f1": "max"}}, "score of 'valid' lacks f1"),
        ({"score": lambda self, records: {"accuracy": 3.0}}, "for records without labels"),
        ({"refer": lambda self, p, u: p.update(label=1) or p}, "refer changes the prediction"),
        ({"refer": lambda self, p, u: {**p, "id": "y", "label": 1}}, "refer gives id 'y' to"),
        ({"refer": lambda self, p, u: {**p, "label": {1}}}, "refer: the record of valid-00000"),
        (
            {"score": lambda self, r: {"accuracy": 1.0} if any(map(_popped, r)) else {}},
            "score changes the records",
        ),
    ],
)
def test_scores(sound: Subject, example: Any, change: dict[str, Any], text: str) -> None:
    found = finding("score", sound, type("Other", (example,), change))
    assert found.state == "broken" and text in found.text


def _popped(record: Any) -> bool:
    return record.pop("label", None) is not None


def test_a_score_that_is_no_number(sound: Subject, example: Any) -> None:
    class Other(example):
        def score(self, records: Any) -> Any:
            return {name: float("nan") for name in super().score(records)}

    assert "no finite number for {'accuracy': nan}" in finding("score", sound, Other).text
