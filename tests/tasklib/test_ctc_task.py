"""The frame of CTC tasks: padding ignored, exact loss terms, clear data errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from orchestra.config.schema import DataConfig
from orchestra.tasklib.ctc import Symbols
from orchestra.tasklib.ctc_config import (
    CtcHeadConfig,
    LinearHeadConfig,
    SmallHeadConfig,
    SpecAugmentConfig,
    SuperbHeadConfig,
)
from orchestra.tasklib.ctc_task import CtcTask
from orchestra.tasks import Batch, Prediction
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance, write_manifest
from tests.tasklib.ctc_batches import DIM, batch_of, utterance

SMALL = SmallHeadConfig(frame_ms=20, projection=8, hidden=8)
SUPERB = SuperbHeadConfig(projection=8, hidden=8)
LINEAR = LinearHeadConfig(projection=8)
MASKS = SpecAugmentConfig()


@dataclass(frozen=True)
class Config:
    """What the frame of a CTC task reads of a task's config."""

    head: CtcHeadConfig
    spec_augment: SpecAugmentConfig | None = MASKS


class Spelling(CtcTask):
    """The smallest of its kind: tokens are the characters of `text`."""

    metrics: ClassVar[dict[str, Any]] = {"errors": "min"}
    label = "transcript (text)"

    def __init__(self, config: Any, data: DataConfig) -> None:
        super().__init__(config, data)
        self.symbols = Symbols(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")

    def tokens(self, utterance: Utterance) -> str | None:
        return utterance.fields.get("text")

    def predict(self, head: Any, features: Any, lengths: Any, batch: Batch) -> list[Prediction]:
        return [
            {"id": name, "hyp": "".join(tokens)}
            for name, tokens in self.recognise(head, features, lengths, batch)
        ]

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        return {}


def task_with(head: CtcHeadConfig) -> tuple[Spelling, torch.nn.Module]:
    task = Spelling(Config(head), DataConfig())
    torch.manual_seed(0)
    return task, task.build_head(DIM, 160)


def without_dropout(config: CtcHeadConfig) -> CtcHeadConfig:
    return config if config.kind == "linear" else config.model_copy(update={"dropout": 0.0})


@pytest.mark.parametrize("config", [SMALL, SUPERB, LINEAR])
@pytest.mark.parametrize("training", [False, True])
def test_loss_of_a_batch_is_the_sum_of_its_utterances(config: Any, training: bool) -> None:
    task, head = task_with(without_dropout(config))
    head.train(training)
    features, lengths, batch = batch_of(task, [0, 1, 2, 3])
    together = task.loss(head, features, lengths, batch)
    singles = []
    for row in range(4):
        features, lengths, batch = batch_of(task, [row])
        singles.append(task.loss(head, features, lengths, batch))
    assert together.weight == 4
    torch.testing.assert_close(together.sum, torch.stack([s.sum for s in singles]).sum())


@pytest.mark.parametrize("config", [SMALL, SUPERB, LINEAR])
def test_prediction_is_independent_of_batch_and_padding(config: Any) -> None:
    task, head = task_with(config)
    head.eval()
    # Larger weights than the initial ones: else every frame says the same symbol.
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(4)
    together = task.predict(head, *batch_of(task, [0, 1, 2, 3]))
    alone = [task.predict(head, *batch_of(task, [row]))[0] for row in range(4)]
    assert together == alone
    assert len({record["hyp"] for record in alone}) > 1


@pytest.mark.parametrize("config", [SMALL, SUPERB, LINEAR])
def test_outputs_are_the_valid_frames_each_utterance_weighing_one(config: Any) -> None:
    task, head = task_with(config)
    head.eval()
    features, lengths, batch = batch_of(task, [0, 1, 3])
    terms = task.loss(head, features, lengths, batch)
    assert terms.outputs is not None
    logits, frames = head(features, lengths)
    assert torch.equal(terms.outputs.logits, logits)
    torch.testing.assert_close(terms.outputs.weights.sum(1), torch.ones(3))
    assert (terms.outputs.weights > 0).sum(1).tolist() == frames.tolist()


def test_loss_is_torchs_mean_ctc_loss() -> None:
    task, head = task_with(SMALL)
    head.eval()
    features, lengths, batch = batch_of(task, [0, 1, 3])
    terms = task.loss(head, features, lengths, batch)
    logits, frames = head(features, lengths)
    expected = torch.nn.CTCLoss()(
        logits.log_softmax(-1).transpose(0, 1),
        batch.targets["symbols"],
        frames,
        batch.targets["lengths"],
    )
    torch.testing.assert_close(terms.sum / terms.weight, expected)


@pytest.mark.parametrize("config", [SMALL, SUPERB, LINEAR])
def test_loss_under_bf16_autocast_is_close_and_in_float32(config: Any) -> None:
    task, head = task_with(config)
    head.eval()
    exact = task.loss(head, *batch_of(task, [0, 1, 3])).sum
    with torch.autocast("cpu", torch.bfloat16):
        rounded = task.loss(head, *batch_of(task, [0, 1, 3])).sum
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.0)


def test_transcript_longer_than_its_audio_is_counted_and_harmless() -> None:
    task, head = task_with(SMALL)
    utterances = [utterance("TOO LONG FOR THAT", 0), utterance("A", 1)]
    features, lengths = torch.randn(2, 12, DIM), torch.tensor([12, 12])
    targets = task.collate([task.target(u) for u in utterances])
    batch = Batch(["utt-0", "utt-1"], torch.zeros(2, 1), lengths * 160, targets, [1, 2], utterances)
    terms = task.loss(head, features, lengths, batch)
    terms.sum.backward()
    assert terms.scalars["unalignable"] == 1
    assert terms.weight == 2
    assert torch.isfinite(terms.sum)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def told_the_split(folder: Path, texts: list[str], seconds: float) -> Spelling:
    """A task that has read its training split; the head's frames are of 0.02 s."""
    lines = [
        {"id": f"utt-{number}", "path": "x.flac", "duration_s": seconds, "text": text}
        for number, text in enumerate(texts)
    ]
    write_manifest(folder, "train", lines, "")
    task = Spelling(Config(SMALL), DataConfig(manifests=folder))
    task.utterances("train")
    return task


def test_a_head_too_coarse_for_most_transcripts_is_an_error(tmp_path: Path) -> None:
    too_long = "TOO LONG FOR THAT"  # 17 characters, 1 double
    task = told_the_split(tmp_path, [*[too_long] * 9, *["A"] * 8], 17 * 0.02)
    said = r"task\.head\.frame_ms.*: 9 \(utt-0, utt-1, utt-2, \.\.\.\) of 17 utterances"
    with pytest.raises(DataError, match=said):
        task.build_head(DIM, 160)
    task.build_head(DIM, 200)  # of which a head frame has but one
    told_the_split(tmp_path, [too_long] * 9, 18 * 0.02).build_head(DIM, 160)


def test_few_unalignable_utterances_are_no_error(tmp_path: Path) -> None:
    told_the_split(tmp_path, [*["TOO LONG FOR THAT"] * 8, *["A"] * 8], 0.12).build_head(DIM, 160)


def test_another_split_is_not_judged(tmp_path: Path) -> None:
    task = told_the_split(tmp_path, ["A"], 0.12)
    line = {"id": "u", "path": "x.flac", "duration_s": 0.12, "text": "TOO LONG FOR THAT"}
    write_manifest(tmp_path, "dev", [{**line, "id": f"u{number}"} for number in range(9)], "")
    task.utterances("dev")
    task.build_head(DIM, 160)


def test_the_loss_depends_on_no_batch_before() -> None:
    """A run that is resumed sees other first batches; nothing may follow from that."""
    task, head = task_with(SMALL)
    utterances = [utterance("TOO LONG FOR THAT", number) for number in range(32)]
    targets = task.collate([task.target(u) for u in utterances])
    lengths = torch.full((32,), 12)
    ids = [u.id for u in utterances]
    batch = Batch(ids, torch.zeros(32, 1), lengths * 160, targets, [0] * 32, utterances)
    terms = task.loss(head, torch.randn(32, 12, DIM), lengths, batch)
    assert terms.scalars["unalignable"] == 32


def test_deterministic_mode_gives_the_same_loss() -> None:
    task, head = task_with(SMALL)
    head.eval()
    usual = task.loss(head, *batch_of(task, [0, 1])).sum
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(usual, task.loss(head, *batch_of(task, [0, 1])).sum)
    finally:
        torch.use_deterministic_algorithms(False)


def manifest(folder: Path, texts: list[str | None]) -> Spelling:
    """A task whose split `dev` has these transcripts."""
    lines: list[dict[str, Any]] = [
        {"id": f"utt-{number}", "path": "x.flac", "offset_s": 0.0, "duration_s": 1.0}
        | ({} if text is None else {"text": text})
        for number, text in enumerate(texts)
    ]
    write_manifest(folder, "dev", lines, "test")
    return Spelling(Config(SMALL), DataConfig(manifests=folder))


@pytest.mark.parametrize("texts", [["A", "B"], [None, None]])
def test_a_split_has_all_transcripts_or_none(tmp_path: Path, texts: list[str | None]) -> None:
    assert len(manifest(tmp_path, texts).utterances("dev")) == 2


def test_a_split_with_some_transcripts_is_refused_when_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'dev': 1 \(utt-1\) of 3 utterances have no"):
        manifest(tmp_path, ["A", None, "B"]).utterances("dev")


def test_no_table_no_augmentation() -> None:
    """The same loss in training as in evaluation, where there is neither that nor dropout."""
    torch.manual_seed(0)
    task = Spelling(Config(LINEAR, spec_augment=None), DataConfig())
    head = task.build_head(DIM, 160)
    trained = task.loss(head.train(), *batch_of(task, [0, 3])).sum
    assert torch.equal(trained, task.loss(head.eval(), *batch_of(task, [0, 3])).sum)
    augmenting = Spelling(Config(LINEAR), DataConfig())
    assert not torch.equal(trained, augmenting.loss(head.train(), *batch_of(task, [0, 3])).sum)
