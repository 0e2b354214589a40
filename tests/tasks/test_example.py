"""The example task: keyed data, and a head that padding does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestra.config.schema import DataConfig
from orchestra.tasks import Batch, Task, TaskInfo, builtin_folder, discover
from orchestra.wire.errors import DataError


@pytest.fixture
def task() -> Task:
    info = discover(Path("/nowhere"))["example"]
    config: Any = info.config_model()
    return info.task_class()(config(other_utterances=9), DataConfig())


def test_it_ships_with_a_summary() -> None:
    info = discover(Path("/nowhere"))["example"]
    assert info.folder.is_relative_to(builtin_folder())
    assert info.summary().startswith("Tones in noise")


def test_the_summary_of_a_readme_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"# T\xf6ne in noise\nmore\n")
    assert TaskInfo("own", tmp_path, builtin=False).summary() == "T\ufffdne in noise"


def test_data_are_keyed_by_id(task: Task) -> None:
    first, second = task.utterances("dev")[:2]
    assert np.array_equal(task.read(first), task.read(first))
    assert not np.array_equal(task.read(first)[:1000], task.read(second)[:1000])
    assert len(task.utterances("dev")) == 9
    assert len(task.utterances("train")) == 400
    assert len({u.id for s in ("train", "dev", "test") for u in task.utterances(s)}) == 418


def test_a_joint_split_is_its_parts(task: Task) -> None:
    parts = [utterance.id for split in ("test", "dev") for utterance in task.utterances(split)]
    assert [utterance.id for utterance in task.utterances("test+dev")] == parts
    with pytest.raises(DataError, match="stands in 'dev' and in 'dev'"):
        task.utterances("dev+dev")
    task.data = DataConfig(train="a+b")
    assert len(task.utterances("a+b")) == 800


def test_waveform_fits_its_duration(task: Task) -> None:
    for utterance in task.utterances("dev"):
        wav = task.read(utterance)
        assert wav.dtype == np.float32
        assert len(wav) == round(16000 * utterance.duration_s)
        assert np.abs(wav).max() < 1


def test_padding_does_not_change_a_prediction_or_a_loss(task: Task) -> None:
    torch.manual_seed(0)
    head = task.build_head(8, 160).eval()
    features, lengths = torch.randn(2, 12, 8), torch.tensor([7, 12])
    features[0, 7:] = 100.0
    both = head(features, lengths)
    alone = head(features[:1, :7], lengths[:1])
    assert torch.allclose(both[:1], alone, atol=1e-6)
    batch = Batch(["a", "b"], features, lengths, {"labels": torch.tensor([0, 1])}, [0, 0])
    terms = task.loss(head, features, lengths, batch)
    assert terms.weight == 2
    assert terms.sum.item() > 0


def test_score_is_percent(task: Task) -> None:
    records = [{"id": str(n), "label": n % 2, "predicted": 0} for n in range(8)]
    assert task.score(records) == {"accuracy": 50.0}


def test_loss_comes_with_its_outputs(task: Task) -> None:
    head = task.build_head(8, 160)
    features, lengths = torch.randn(2, 12, 8), torch.tensor([7, 12])
    batch = Batch(["a", "b"], features, lengths, {"labels": torch.tensor([0, 1])}, [0, 0])
    terms = task.loss(head, features, lengths, batch)
    assert terms.outputs is not None
    assert terms.outputs.logits.shape == (2, 4)
    assert terms.outputs.weights.sum() == terms.weight


def test_an_unlabelled_split_is_predicted_but_neither_trained_on_nor_scored(task: Task) -> None:
    first, *_ = task.utterances("unlabelled-dev")
    assert "label" not in first.fields
    assert len(task.read(first)) == round(16000 * first.duration_s)
    targets = task.collate([task.target(first)])
    assert targets == {}
    head = task.build_head(8, 160).eval()
    features, lengths = torch.randn(1, 12, 8), torch.tensor([12])
    batch = Batch([first.id], features, lengths, targets, [0], [first])
    records = task.predict(head, features, lengths, batch)
    assert set(records[0]) == {"id", "predicted"}
    assert task.score(records) == {}
    with pytest.raises(DataError, match="unlabelled-dev-00000 has no label"):
        task.loss(head, features, lengths, batch)
