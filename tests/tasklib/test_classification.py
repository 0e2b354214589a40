"""Classification: heads that ignore padding, exact loss terms, classes that are kept, labels that
are refused or counted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from orchestra.config.schema import DataConfig
from orchestra.tasklib.classification import UNSEEN, Classification
from orchestra.tasklib.classification_config import (
    ClassificationConfig,
    SmallHeadConfig,
    SuperbHeadConfig,
)
from orchestra.tasklib.classification_heads import SuperbHead, build_head
from orchestra.tasks import Batch
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance, write_manifest

DIM = 6
SMALL = SmallHeadConfig(channels=16, dropout=0.0)
SUPERB = SuperbHeadConfig(projection=8)
HEADS = pytest.mark.parametrize("config", [SMALL, SUPERB], ids=["small", "superb"])
LABELS = ["yes", "no", "no", "go"]
LENGTHS = [40, 3, 1, 25]


class Intents(Classification):
    """Two slots."""

    slots = ("action", "object")


def utterance(number: int, **fields: Any) -> Utterance:
    return Utterance(f"utt-{number}", Path("x.wav"), 0.0, 1.0, fields)


def task_of(config: Any = SMALL, unseen: Any = "refuse") -> Classification:
    settings = ClassificationConfig(kind="any", head=config, unseen=unseen)
    task = Classification(settings, DataConfig())
    task.recall(task.learn([utterance(row, label=name) for row, name in enumerate(LABELS)]))
    return task


def head_of(task: Classification) -> torch.nn.Module:
    torch.manual_seed(0)
    return task.build_head(DIM, 160)


def batch_of(
    task: Classification, rows: list[int], padding: int = 0
) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Features, lengths and batch of some of the four utterances; padding is garbage."""
    utterances = [utterance(row, label=LABELS[row]) for row in rows]
    lengths = torch.tensor([LENGTHS[row] for row in rows])
    features = torch.full((len(rows), int(lengths.max()) + padding, DIM), 1e3)
    for place, row in enumerate(rows):
        own = torch.randn(LENGTHS[row], DIM, generator=torch.Generator().manual_seed(row))
        features[place, : LENGTHS[row]] = own
    targets = task.collate([task.target(each) for each in utterances])
    ids = [each.id for each in utterances]
    wavs = torch.zeros(len(rows), 1)
    return features, lengths, Batch(ids, wavs, lengths * 160, targets, rows, utterances)


@HEADS
def test_logits_depend_on_no_batch_mate_and_no_padding(config: Any) -> None:
    task = task_of(config)
    head = head_of(task).eval()
    together = head(*batch_of(task, [0, 1, 2, 3], padding=7)[:2])
    alone = torch.cat([head(*batch_of(task, [row])[:2]) for row in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_the_superb_head_is_linear_mean_linear() -> None:
    """Yang et al. 2021 project first and average then."""
    task = task_of(SUPERB)
    head = head_of(task)
    assert isinstance(head, SuperbHead)
    features, lengths, _ = batch_of(task, [0, 3])
    expected = [
        head.output(head.projection(frames[:length]).mean(0))
        for frames, length in zip(features, lengths, strict=True)
    ]
    torch.testing.assert_close(head(features, lengths), torch.stack(expected))


def test_the_small_head_sees_what_changes_over_time() -> None:
    """A mean alone could not tell these two, nor could it after per-utterance normalisation."""
    torch.manual_seed(0)
    head = build_head(SMALL, DIM, 3).eval()
    frames = torch.randn(1, 20, DIM)
    lengths = torch.tensor([20])
    order = torch.randperm(20)
    assert (head(frames, lengths) - head(frames[:, order], lengths)).abs().max() > 1e-3


@HEADS
def test_the_loss_of_a_batch_is_the_sum_of_its_utterances(config: Any) -> None:
    task = task_of(config)
    head = head_of(task)
    together = task.loss(head, *batch_of(task, [0, 1, 2, 3]))
    singles = [task.loss(head, *batch_of(task, [row])) for row in range(4)]
    assert together.weight == 4
    torch.testing.assert_close(together.sum, torch.stack([each.sum for each in singles]).sum())
    assert together.outputs is not None
    assert together.outputs.weights.sum() == together.weight


def test_the_loss_is_torchs_cross_entropy() -> None:
    task = task_of()
    head = head_of(task)
    features, lengths, batch = batch_of(task, [0, 1, 2, 3])
    terms = task.loss(head, features, lengths, batch)
    numbers = torch.tensor([2, 1, 1, 0])  # go, no, yes
    expected = cross_entropy(head(features, lengths), numbers)
    torch.testing.assert_close(terms.sum / terms.weight, expected)


@HEADS
def test_bf16_gives_a_loss_in_float32_that_is_close(config: Any) -> None:
    task = task_of(config)
    head = head_of(task)
    exact = task.loss(head, *batch_of(task, [0, 1, 3])).sum
    with torch.autocast("cpu", torch.bfloat16):
        rounded = task.loss(head, *batch_of(task, [0, 1, 3])).sum
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.0)


def test_predictions_hold_no_reference_and_referred_ones_the_label() -> None:
    task = task_of()
    head = head_of(task).eval()
    features, lengths, batch = batch_of(task, [0, 3])
    records = task.predict(head, features, lengths, batch)
    assert [set(record) for record in records] == [{"id", "predicted", "probability"}] * 2
    shares = head(features, lengths).detach().softmax(1)
    assert records[0]["predicted"] == ["go", "no", "yes"][int(shares[0].argmax())]
    assert records[0]["probability"] == pytest.approx(float(shares[0].max()), abs=1e-3)
    referred = task.refer(records[0], batch.utterances[0])
    assert referred == {**records[0], "label": "yes"}
    assert task.refer(records[0], utterance(0)) == records[0]


def test_every_slot_adds_its_loss_and_all_must_be_right() -> None:
    task = Intents(ClassificationConfig(kind="any", head=SMALL), DataConfig())
    rows = [("on", "light"), ("off", "light"), ("off", "heat")]
    utterances = [utterance(row, action=a, object=o) for row, (a, o) in enumerate(rows)]
    task.recall(task.learn(utterances))
    head = head_of(task).eval()
    features, lengths = torch.randn(3, 9, DIM), torch.tensor([9, 9, 9])
    targets = task.collate([task.target(each) for each in utterances])
    ids = [each.id for each in utterances]
    batch = Batch(ids, torch.zeros(3, 1), lengths, targets, [0] * 3, utterances)
    actions, objects = head(features, lengths).split([2, 2], dim=1)
    expected = cross_entropy(actions, torch.tensor([1, 0, 0]), reduction="sum") + cross_entropy(
        objects, torch.tensor([1, 1, 0]), reduction="sum"
    )
    terms = task.loss(head, features, lengths, batch)
    torch.testing.assert_close(terms.sum, expected)
    assert terms.weight == 3
    record = task.predict(head, features, lengths, batch)[0]
    assert record["predicted"].keys() == record["probability"].keys() == {"action", "object"}
    referred = [
        {"id": "a", "predicted": {"action": "on", "object": "heat"}},
        {"id": "b", "predicted": {"action": "off", "object": "light"}},
        {"id": "c", "predicted": {"action": "off", "object": "heat"}},
    ]
    metrics = task.score(
        [task.refer(r, each) for r, each in zip(referred, utterances, strict=True)]
    )
    assert metrics == pytest.approx(
        {"accuracy": 200 / 3, "action_accuracy": 100.0, "object_accuracy": 200 / 3}
    )


def test_classes_outlive_the_corpus_as_json() -> None:
    task = task_of()
    learnt = json.loads(json.dumps({"classes": task.counts}))
    fresh = Classification(ClassificationConfig(kind="any", head=SMALL), DataConfig())
    fresh.recall(learnt)
    batch = batch_of(task, [0, 1, 2])
    head = head_of(task).eval()
    assert fresh.predict(head, *batch) == task.predict(head, *batch)


def test_without_what_was_learnt_there_is_no_head() -> None:
    task = Classification(ClassificationConfig(kind="any"), DataConfig())
    task.recall({})
    with pytest.raises(DataError, match=r"no classes are known.*learnt\.json"):
        task.build_head(DIM, 160)


def on_disk(folder: Path, unseen: Any = "refuse", **splits: list[Any]) -> Classification:
    """A task over manifests with these labels; None is no label."""
    for split, labels in splits.items():
        lines = [
            {"id": f"{split}-{number}", "path": "x.wav", "offset_s": 0.0, "duration_s": 1.0}
            | ({} if label is None else {"label": label})
            for number, label in enumerate(labels)
        ]
        write_manifest(folder, split, lines, "a test")
    settings = ClassificationConfig(kind="any", head=SMALL, unseen=unseen)
    return Classification(settings, DataConfig(manifests=folder))


def test_an_unseen_label_is_refused_when_its_split_is_read(tmp_path: Path) -> None:
    task = on_disk(tmp_path, train=["a", "b"], dev=["b"], test=["a", "c"])
    task.recall(task.learn(task.utterances("train")))
    assert len(task.utterances("dev")) == 1
    said = r"split 'test', utterance test-1: the training split has no label 'c'.*task\.unseen"
    with pytest.raises(DataError, match=said):
        task.utterances("test")


def test_an_unseen_label_is_refused_where_predictions_meet_their_references() -> None:
    said = r"^utterance utt-0: the training split has no label 'Yes'; correct it or leave it out"
    with pytest.raises(DataError, match=said):
        task_of().refer({"id": "utt-0", "predicted": "yes"}, utterance(0, label="Yes"))


def test_an_unseen_label_can_be_counted_as_wrong(tmp_path: Path) -> None:
    task = on_disk(tmp_path, "count", train=["a", "b"], test=["a", "c"])
    task.recall(task.learn(task.utterances("train")))
    utterances = task.utterances("test")
    assert [task.target(each) for each in utterances] == [(0,), (UNSEEN,)]
    records = [{"id": each.id, "predicted": "a"} for each in utterances]
    metrics = task.score([task.refer(r, u) for r, u in zip(records, utterances, strict=True)])
    assert (metrics["accuracy"], metrics["unseen"]) == (50.0, 1.0)
    assert metrics.keys() == task.metrics.keys()  # only such are shown


def test_a_resumed_run_refuses_a_training_split_of_other_labels(tmp_path: Path) -> None:
    task = on_disk(tmp_path, "count", train=["a", "b", "c"])
    task.recall({"classes": {"label": {"a": 1, "b": 1}}})
    with pytest.raises(DataError, match=r"split 'train', utterance train-2"):
        task.utterances("train")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([None, None], r"split 'train' has no labels to train on: its manifest has no label"),
        (["a", None, None], r"2 of 3 utterances have no label \(train-1 is the first\)"),
        (["a", "a"], r"split 'train' has one class alone \(a\)"),
        (["a", " "], r"utterance train-1: label must be a text that is not empty, not ' '"),
        (["a", 7], r"utterance train-1: label must be a text"),
    ],
)
def test_labels_that_cannot_be_learnt_are_told(
    tmp_path: Path, labels: list[Any], said: str
) -> None:
    task = on_disk(tmp_path, train=labels)
    with pytest.raises(DataError, match=said):
        task.learn(task.utterances("train"))


def test_a_split_without_labels_is_predicted_and_not_scored(tmp_path: Path) -> None:
    task = on_disk(tmp_path, train=["a", "b"], new=[None, None])
    task.recall(task.learn(task.utterances("train")))
    new = task.utterances("new")
    assert task.collate([task.target(each) for each in new]) == {}
    assert task.score([task.refer({"id": each.id, "predicted": "a"}, each) for each in new]) == {}
    features, lengths = torch.randn(1, 9, DIM), torch.tensor([9])
    batch = Batch(["new-0"], torch.zeros(1, 1), lengths, {}, [0], new[:1])
    with pytest.raises(DataError, match="new-0 has no label"):
        task.loss(head_of(task), features, lengths, batch)
