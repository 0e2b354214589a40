"""The asr task: heads that ignore padding, exact loss terms, greedy decoding, clear data errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from orchestra.config.schema import DataConfig
from orchestra.tasks import Batch, builtin_folder, find_task
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.manifest import Utterance, write_manifest
from tasks.asr.config import Config, SmallHeadConfig, SpecAugmentConfig, SuperbHeadConfig
from tasks.asr.head import stack_frames, stack_size
from tasks.asr.symbols import Symbols, frames_needed, frames_of_text
from tasks.asr.task import Task

DIM = 6
SMALL = SmallHeadConfig(frame_ms=20, projection=8, hidden=8)
SUPERB = SuperbHeadConfig(projection=8, hidden=8)
TEXTS = ["THE CAT", "A", "", "SEE  IT'S BOOK"]
LENGTHS = [60, 25, 11, 48]


def task_with(head: SmallHeadConfig | SuperbHeadConfig) -> tuple[Task, torch.nn.Module]:
    task = Task(Config(head=head), DataConfig())
    torch.manual_seed(0)
    return task, task.build_head(DIM, 160)


def utterance(text: str | None, number: int = 0) -> Utterance:
    fields: dict[str, Any] = {} if text is None else {"text": text}
    return Utterance(f"utt-{number}", Path("x.flac"), 0.0, 1.0, fields)


def batch_of(task: Task, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Features, lengths and batch of some of the four utterances; padding is garbage."""
    utterances = [utterance(TEXTS[row], row) for row in rows]
    lengths = torch.tensor([LENGTHS[row] for row in rows])
    features = torch.full((len(rows), int(lengths.max()), DIM), 1e3)
    for place, row in enumerate(rows):
        own = torch.randn(LENGTHS[row], DIM, generator=torch.Generator().manual_seed(row))
        features[place, : LENGTHS[row]] = own
    targets = task.collate([task.target(u) for u in utterances])
    batch = Batch(
        [u.id for u in utterances],
        torch.zeros(len(rows), 1),
        lengths * 160,
        targets,
        rows,
        utterances,
    )
    return features, lengths, batch


@pytest.mark.parametrize("config", [SMALL, SUPERB])
@pytest.mark.parametrize("training", [False, True])
def test_loss_of_a_batch_is_the_sum_of_its_utterances(config: Any, training: bool) -> None:
    task, head = task_with(config.model_copy(update={"dropout": 0.0}))
    head.train(training)
    features, lengths, batch = batch_of(task, [0, 1, 2, 3])
    together = task.loss(head, features, lengths, batch)
    singles = []
    for row in range(4):
        features, lengths, batch = batch_of(task, [row])
        singles.append(task.loss(head, features, lengths, batch))
    assert together.weight == 4
    torch.testing.assert_close(together.sum, torch.stack([s.sum for s in singles]).sum())


@pytest.mark.parametrize("config", [SMALL, SUPERB])
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


@pytest.mark.parametrize("config", [SMALL, SUPERB])
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


def test_superb_heads_dropout_is_that_between_layers_and_follows_the_seed() -> None:
    _, head = task_with(SUPERB.model_copy(update={"dropout": 0.5, "layers": 3}))
    features, lengths = torch.randn(2, 9, DIM), torch.tensor([9, 5])

    def logits(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return head(features, lengths)[0]

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    # The dropout of an nn.LSTM itself draws elsewhere on GPUs, where no seed reaches it.
    assert not any(m.dropout for m in head.modules() if isinstance(m, torch.nn.LSTM))
    head.eval()
    assert torch.equal(logits(1), logits(2))


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


@pytest.mark.parametrize("config", [SMALL, SUPERB])
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


def told_the_split(folder: Path, texts: list[str], seconds: float) -> Task:
    """A task that has read its training split; the head's frames are of 0.02 s."""
    lines = [
        {"id": f"utt-{number}", "path": "x.flac", "duration_s": seconds, "text": text}
        for number, text in enumerate(texts)
    ]
    write_manifest(folder, "train", lines, "")
    task = Task(Config(head=SMALL), DataConfig(manifests=folder))
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


def test_frames_needed_counts_doubled_characters() -> None:
    symbols = Symbols("ABO K")
    targets = [symbols.encode(text, "u") for text in ("BOOK", "AAA", "")]
    lengths = torch.tensor([len(target) for target in targets])
    padded = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
    assert frames_needed(padded, lengths).tolist() == [5, 5, 0]
    assert [frames_of_text(text) for text in ("BOOK", "AAA", "")] == [5, 5, 0]


def test_deterministic_mode_gives_the_same_loss() -> None:
    task, head = task_with(SMALL)
    head.eval()
    usual = task.loss(head, *batch_of(task, [0, 1])).sum
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(usual, task.loss(head, *batch_of(task, [0, 1])).sum)
    finally:
        torch.use_deterministic_algorithms(False)


def test_greedy_merges_repeats_drops_blanks_and_stops_at_the_length() -> None:
    symbols = Symbols(" AB")  # blank 0, space 1, A 2, B 3
    paths = torch.tensor(
        [[2, 2, 0, 2, 3, 1, 1, 3], [0, 0, 0, 0, 0, 0, 0, 0], [3, 0, 3, 2, 2, 2, 2, 2]]
    )
    logits = torch.nn.functional.one_hot(paths, 4).float()
    assert symbols.greedy(logits, torch.tensor([8, 8, 3])) == ["AAB B", "", "BB"]


def test_stacking_fills_an_incomplete_frame_with_zeros() -> None:
    features = torch.arange(1.0, 11.0).reshape(2, 5, 1)
    stacked, lengths = stack_frames(features, torch.tensor([5, 3]), 2)
    assert lengths.tolist() == [3, 2]
    assert stacked[0].tolist() == [[1, 2], [3, 4], [5, 0]]
    assert stacked[1, :2].tolist() == [[6, 7], [8, 0]]


@pytest.mark.parametrize(("stride", "size"), [(160, 3), (320, 1), (240, 2), (480, 1)])
def test_frames_are_joined_up_to_the_length_asked_for(stride: int, size: int) -> None:
    head = Task(Config(head=SmallHeadConfig()), DataConfig()).build_head(DIM, stride)
    _, lengths = head(torch.zeros(1, 12, DIM), torch.tensor([12]))
    assert lengths.tolist() == [12 // size]


def test_frames_longer_than_asked_for_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"task.head.frame_ms = 30: the upstream's frames are 40 ms"
    ):
        stack_size(30, 640)


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


@pytest.mark.parametrize("texts", [["A", "B"], [None, None]])
def test_a_split_has_all_transcripts_or_none(tmp_path: Path, texts: list[str | None]) -> None:
    assert len(manifest(tmp_path, texts).utterances("dev")) == 2


def test_a_split_with_some_transcripts_is_refused_when_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'dev': 1 \(utt-1\) of 3 utterances have no"):
        manifest(tmp_path, ["A", None, "B"]).utterances("dev")


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
