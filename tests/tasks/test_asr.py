"""The asr task: its records, its characters, clear data errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from orchestra.config.schema import DataConfig
from orchestra.tasks import Batch, builtin_folder, find_task
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import write_manifest
from tasks.asr.config import Config, SmallHeadConfig, SpecAugmentConfig, SuperbHeadConfig
from tasks.asr.task import Task
from tests.tasklib.ctc_batches import DIM, batch_of, utterance

SMALL = SmallHeadConfig(frame_ms=20, projection=8, hidden=8)


def task_with(head: SmallHeadConfig) -> tuple[Task, torch.nn.Module]:
    task = Task(Config(head=head), DataConfig())
    torch.manual_seed(0)
    return task, task.build_head(DIM, 160)


def test_unknown_character_names_the_utterance_and_the_character() -> None:
    task, _ = task_with(SMALL)
    with pytest.raises(DataError, match=r"utt-3.*'7', 'é'"):
        task.target(utterance("CAFé 7", 3))


def test_records_carry_reference_hypothesis_and_alignment() -> None:
    task, head = task_with(SMALL)
    head.eval()
    features, lengths, batch = batch_of(task, [0, 2])
    predicted = task.predict(head, features, lengths, batch)
    assert set(predicted[0]) == {"id", "hyp"}
    records = [task.refer(r, u) for r, u in zip(predicted, batch.utterances, strict=True)]
    assert [record["ref"] for record in records] == ["THE CAT", ""]
    assert {"id", "ref", "hyp", "alignment", "words", "characters"} == set(records[0])
    metrics = task.score(records)
    assert set(task.metrics) <= set(metrics)
    assert metrics["words"] == 2


def test_without_transcripts_predicts_but_neither_trains_nor_scores() -> None:
    task, head = task_with(SMALL)
    head.eval()
    silent = [utterance(None, 9)]
    targets = task.collate([task.target(silent[0])])
    features, lengths = torch.randn(1, 20, DIM), torch.tensor([20])
    batch = Batch(["utt-9"], torch.zeros(1, 1), lengths * 160, targets, [1], silent)
    records = task.predict(head, features, lengths, batch)
    assert set(records[0]) == {"id", "hyp"}
    assert task.score(records) == {}
    with pytest.raises(DataError, match="utt-9"):
        task.loss(head, features, lengths, batch)


def manifest(folder: Path, texts: list[str | None]) -> Task:
    """A task whose split `dev` has these transcripts."""
    lines: list[dict[str, Any]] = [
        {"id": f"utt-{number}", "path": "x.flac", "offset_s": 0.0, "duration_s": 1.0}
        | ({} if text is None else {"text": text})
        for number, text in enumerate(texts)
    ]
    write_manifest(folder, "dev", lines, "test")
    return Task(Config(head=SMALL), DataConfig(manifests=folder))


def test_a_transcript_with_other_characters_is_refused_when_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"utt-1.*'7'"):
        manifest(tmp_path, ["A", "7"]).utterances("dev")


@pytest.mark.parametrize("characters", ["", "ABA", "A\tB"])
def test_config_refuses_unusable_character_sets(characters: str) -> None:
    with pytest.raises(ValidationError):
        Config(characters=characters)


def test_default_config_is_superbs() -> None:
    config = Config()
    assert len(config.characters) == 28
    assert config.head == SuperbHeadConfig(projection=1024, hidden=1024, layers=2, dropout=0.2)
    assert config.spec_augment == SpecAugmentConfig(
        time_warp=5, time_masks=2, time_mask_frames=40, feature_masks=4, feature_mask_dims=50
    )


def test_is_found_as_a_built_in_task(tmp_path: Path) -> None:
    info = find_task("asr", tmp_path)
    assert info.folder == builtin_folder() / "tasks" / "asr"
    assert info.config_model()().kind == "asr"
    assert next(iter(info.task_class().metrics)) == "wer"
    assert info.summary()
