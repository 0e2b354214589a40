"""Speaker verification: an embedding depends on its utterance alone, trials, VoxCeleb1's layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from orchestra.config.schema import DataConfig
from orchestra.tasks import Batch, find_task
from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import Utterance, write_manifest
from tasks.asv import tiny
from tasks.asv.config import Config
from tasks.asv.head import LOST_FRAMES, Head
from tasks.asv.prepare import Recording, draw_trials, held_out_speakers, prepare
from tasks.asv.task import Task
from tests.tasks.training import UNTRAINED, kinds_of, prepare_tiny, train_here, write_noise

DIM = 6
SMALL = Config(hidden=8, pooled=12, embedding=8)
LENGTHS = [60, 25, 3, 48]
SPEAKERS = ["ann", "bob", "ann", "cy"]


def utterance(number: int, **fields: Any) -> Utterance:
    return Utterance(f"utt-{number}", Path("x.wav"), 0.0, 1.0, fields)


@pytest.fixture
def task() -> Task:
    made = Task(SMALL, DataConfig())
    known = [utterance(number, speaker=name) for number, name in enumerate(SPEAKERS)]
    made.recall(made.learn(known))
    return made


@pytest.fixture
def head(task: Task) -> torch.nn.Module:
    torch.manual_seed(0)
    return task.build_head(DIM, 160)


def batch_of(task: Task, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Features, lengths and batch of some of four utterances; padding is garbage."""
    utterances = [utterance(row, speaker=SPEAKERS[row]) for row in rows]
    lengths = torch.tensor([LENGTHS[row] for row in rows])
    features = torch.full((len(rows), int(lengths.max()), DIM), 1e3)
    for place, row in enumerate(rows):
        own = torch.randn(LENGTHS[row], DIM, generator=torch.Generator().manual_seed(row))
        features[place, : LENGTHS[row]] = own
    targets = task.collate([task.target(each) for each in utterances])
    ids = [each.id for each in utterances]
    wavs = torch.zeros(len(rows), 1)
    return features, lengths, Batch(ids, wavs, lengths * 160, targets, rows, utterances)


def test_loss_of_a_batch_is_the_sum_of_its_utterances(task: Task, head: Any) -> None:
    together = task.loss(head, *batch_of(task, [0, 1, 2, 3]))
    singles = [task.loss(head, *batch_of(task, [row])) for row in range(4)]
    assert together.weight == 4
    torch.testing.assert_close(together.sum, torch.stack([each.sum for each in singles]).sum())


def test_an_embedding_is_independent_of_batch_and_padding(task: Task, head: Any) -> None:
    together = task.predict(head, *batch_of(task, [0, 1, 2, 3]))
    for row in range(4):
        (alone,) = task.predict(head, *batch_of(task, [row]))
        assert alone["id"] == together[row]["id"]
        np.testing.assert_allclose(alone["embedding"], together[row]["embedding"], atol=1e-5)


def test_the_garbage_behind_an_utterance_would_be_seen(task: Task, head: Any) -> None:
    """The control of the test above."""
    features, lengths, _ = batch_of(task, [0, 1])
    believed = head.embed(features, torch.tensor([60, 60]))
    assert not torch.allclose(believed[1], head.embed(features, lengths)[1], atol=1e-2)


def test_every_frame_with_its_whole_context_counts_and_no_other(head: Head) -> None:
    """The pooled frames are those of a convolution without padding."""
    features = torch.randn(1, 40, DIM)
    hidden = head.projection(features).transpose(1, 2)
    for layer in head.layers:
        hidden = torch.relu(layer(hidden))
    assert hidden.shape[2] == 40 - LOST_FRAMES
    deviation = (hidden.var(2, correction=0) + 1e-5).sqrt()
    pooled = torch.cat([hidden.mean(2), deviation], dim=1)
    expected = torch.relu(head.embedding(pooled))
    torch.testing.assert_close(head.embed(features, torch.tensor([40])), expected)


@pytest.mark.parametrize("frames", [1, LOST_FRAMES, LOST_FRAMES + 1])
def test_an_utterance_shorter_than_the_context_has_an_embedding(head: Head, frames: int) -> None:
    features = torch.randn(1, frames, DIM, requires_grad=True)
    embedding = head.embed(features, torch.tensor([frames]))
    assert torch.isfinite(embedding).all()
    embedding.sum().backward()
    assert torch.isfinite(features.grad).all() and features.grad.abs().sum() > 0


def test_loss_is_additive_margin_softmax(task: Task, head: Head) -> None:
    """Wang et al. 2018, equation 6, written out."""
    features, lengths, batch = batch_of(task, [0, 1, 3])
    last = torch.relu(head.last(head.embed(features, lengths)))
    cosines = F.cosine_similarity(last[:, None], head.speakers[None], dim=2)
    right = batch.targets["speakers"]
    expected = 0.0
    for row, speaker in enumerate(right.tolist()):
        own = torch.exp(30.0 * (cosines[row, speaker] - 0.4))
        others = sum(torch.exp(30.0 * cosines[row, j]) for j in range(3) if j != speaker)
        expected -= torch.log(own / (own + others))
    terms = task.loss(head, features, lengths, batch)
    torch.testing.assert_close(terms.sum, expected)
    assert terms.outputs is not None
    again = F.cross_entropy(terms.outputs.logits, right, reduction="sum")
    torch.testing.assert_close(again, expected)


def test_speakers_are_learnt_from_the_training_split_alone(task: Task) -> None:
    assert task.target(utterance(9, speaker="cy")) == 2
    unseen = utterance(9, speaker="dee")
    assert task.collate([task.target(unseen)])  # it has a label: it can be verified
    head = task.build_head(DIM, 160)
    targets = task.collate([task.target(unseen)])
    batch = Batch(["utt-9"], torch.zeros(1, 1), torch.tensor([3200]), targets, [0], [unseen])
    with pytest.raises(DataError, match=r"utt-9: its speaker is not among those"):
        task.loss(head, torch.randn(1, 20, DIM), torch.tensor([20]), batch)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["ann", "ann"], "one speaker only"),
        (["ann", None], "utt-1 has no"),
        (["ann", " "], "utt-1: speaker must be a text"),
        (["ann", 7], "utt-1: speaker must be a text"),
    ],
)
def test_a_training_split_without_speakers_is_refused(names: list[Any], said: str) -> None:
    utterances = [
        utterance(number, **({"speaker": name} if name else {}))
        for number, name in enumerate(names)
    ]
    with pytest.raises(DataError, match=said):
        Task(SMALL, DataConfig()).learn(utterances)


def test_a_number_is_as_short_as_float32_allows_and_the_same(task: Task, head: Head) -> None:
    features, lengths, batch = batch_of(task, [0, 1])
    records = task.predict(head, features, lengths, batch)
    exact = head.embed(features, lengths)
    assert torch.equal(torch.tensor([record["embedding"] for record in records]), exact)
    assert max(len(str(number)) for record in records for number in record["embedding"]) <= 14


def test_an_embedding_that_is_not_finite_is_refused_by_id(task: Task, head: Head) -> None:
    features, lengths, batch = batch_of(task, [0, 1])
    features[1, 2] = torch.nan
    with pytest.raises(DataError, match="utterance utt-1: its embedding is not finite"):
        task.predict(head, features, lengths, batch)


def test_scores_run_over_all_trials_and_records_without_trials_are_only_tried() -> None:
    task = Task(SMALL, DataConfig())
    vectors = {0: [1.0, 0.0], 1: [0.9, 0.1], 2: [0.0, 1.0], 3: [0.2, 0.9]}
    enrolled = utterance(0, trials=[["utt-1", 1], ["utt-2", 0]])
    other = utterance(2, trials=[["utt-3", 1], ["utt-1", 0]])
    records = [
        task.refer({"id": f"utt-{number}", "embedding": vector}, each)
        for (number, vector), each in zip(
            vectors.items(), [enrolled, utterance(1), other, utterance(3)], strict=True
        )
    ]
    metrics = task.score(records)
    assert metrics == {"eer": 0.0, "min_dcf_p01": 0.0, "min_dcf_p05": 0.0, "trials": 4.0}
    assert task.score([{"id": "utt-1", "embedding": [1.0]}]) == {}
    with pytest.raises(DataError, match=r"utterance utt-0: a trial names 'utt-1'"):
        task.score(records[:1])


def manifest(folder: Path, **trials: list[Any]) -> Task:
    lines = [
        {"id": name, "path": "x.wav", "duration_s": 1.0, "speaker": name, "trials": pairs}
        for name, pairs in trials.items()
    ]
    write_manifest(folder, "dev", lines, "a test")
    return Task(SMALL, DataConfig(manifests=folder))


def test_trials_that_cannot_be_scored_are_refused_when_read(tmp_path: Path) -> None:
    assert len(manifest(tmp_path, a=[["b", 0], ["a", 1]], b=[]).utterances("dev")) == 2
    with pytest.raises(DataError, match="split 'dev': a trial of utterance a names 'x'"):
        manifest(tmp_path, a=[["x", 1]]).utterances("dev")
    for broken in (["b"], [["b", 2]], [["b"]], 7):
        with pytest.raises(DataError, match="utterance a: trials must be pairs"):
            manifest(tmp_path, a=broken, b=[]).utterances("dev")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"'dev' has no trials.*data\.valid"):
        manifest(tmp_path, a=[], b=[]).utterances("dev")
    with pytest.raises(DataError, match="'dev': no trial is of different speakers"):
        manifest(tmp_path, a=[["b", 1]], b=[]).utterances("dev")
    part = manifest(tmp_path, a=[["b", 0], ["a", 1]], b=[])
    part.data = DataConfig(manifests=tmp_path, valid_utterances=1)
    with pytest.raises(DataError, match=r"valid_utterances: .* all of them must be predicted"):
        part.utterances("dev")


# ---- VoxCeleb1 as it lies on disk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight speakers to train on, two to test."""
    folder = tmp_path / "vox"
    for part, speakers in (("dev", range(1, 9)), ("test", range(9, 11))):
        for speaker in speakers:
            for take in (1, 2):
                place = folder / part / "wav" / f"id{10000 + speaker}" / "abc_-12345x"
                write_noise(place / f"{take:05d}.wav")
    one, two = "id10009/abc_-12345x/0000", "id10010/abc_-12345x/0000"
    (folder / "veri_test2.txt").write_text(
        f"1 {one}1.wav {one}2.wav\n0 {one}1.wav {two}1.wav\n\n1 {two}2.wav {two}1.wav\n"
    )
    return folder


def test_prepare_reads_speakers_and_trials(root: Path, tmp_path: Path) -> None:
    prepared = prepare(root, tmp_path / "out")
    assert prepared.problems == []
    assert {split: len(lines) for split, lines in prepared.splits.items()} == {
        "train": 12,
        "dev": 4,
        "test": 4,
    }
    first = prepared.splits["test"][0]
    assert first == {
        "id": "id10009/abc_-12345x/00001",
        "path": "../vox/test/wav/id10009/abc_-12345x/00001.wav",
        "offset_s": 0.0,
        "duration_s": 0.1,
        "speaker": "id10009",
        "trials": [["id10009/abc_-12345x/00002", 1], ["id10010/abc_-12345x/00001", 0]],
    }
    trained = {line["speaker"] for line in prepared.splits["train"]}
    validated = {line["speaker"] for line in prepared.splits["dev"]}
    assert len(trained) == 6 and len(validated) == 2 and not trained & validated


def test_the_list_before_its_cleaning_is_another_split(root: Path) -> None:
    shutil.copy(root / "veri_test2.txt", root / "veri_test.txt")
    assert set(prepare(root, root).splits) == {"train", "dev", "test", "test-original"}


def test_all_that_is_wrong_with_a_list_is_told_with_its_line(root: Path) -> None:
    path = root / "veri_test2.txt"
    path.write_text("1 id1/a/1.wav id10009/abc_-12345x/00001.wav\n2 x y\n1 x\n")
    places = kinds_of(prepare(root, root))
    assert places["trials that name a missing file"] == [f"{path}, line 1: id1/a/1.wav"]
    assert [place.split(": ")[0] for place in places["lines that are no trial"]] == [
        f"{path}, line 2",
        f"{path}, line 3",
    ]


def test_an_unreadable_recording_is_a_problem(root: Path) -> None:
    broken = root / "dev" / "wav" / "id10001" / "abc_-12345x" / "00001.wav"
    broken.write_bytes(b"")
    (place,) = kinds_of(prepare(root, root))["unreadable recordings"]
    assert str(broken) in place


def test_another_layout_is_refused_and_says_what_is_expected(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dev/wav and no test/wav"):
        prepare(tmp_path, tmp_path)
    (root / "veri_test2.txt").unlink()
    with pytest.raises(NotFoundError, match=r"no list of trials.*veri_test2\.txt"):
        prepare(root, root)


def test_forty_of_voxcelebs_speakers_are_held_out() -> None:
    speakers = [f"id{10001 + number}" for number in range(1211)]
    assert len(held_out_speakers(speakers)) == 40
    assert held_out_speakers(speakers) == held_out_speakers(reversed(speakers))


def test_drawn_trials_are_as_the_rule_says() -> None:
    recordings = [
        Recording(f"{speaker}/v/{take}", Path("x")) for speaker in "abc" for take in range(6)
    ]
    trials = draw_trials(recordings)
    assert trials == draw_trials(recordings)
    assert set(trials) == {recording.id for recording in recordings}
    for enrolled, pairs in trials.items():
        assert len({name for name, _ in pairs} - {enrolled}) == 8
        assert [target for _, target in pairs] == [1] * 4 + [0] * 4
        assert all((name[0] == enrolled[0]) == bool(target) for name, target in pairs)


def test_the_tiny_corpus_is_the_same_again_and_reads_without_problems(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tiny.make(tmp_path / name, 1, {"dev": 8, "test": 2})
    assert prepare(tmp_path / "one", tmp_path).problems == []
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 6 * 10 + 1
    for path in files:
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes()


def test_is_found_by_its_name_and_by_s3prls(tmp_path: Path) -> None:
    info = find_task("sv_voxceleb1", tmp_path)
    assert info.name == "asv"
    assert info.summary().startswith("speaker verification")
    superb = Config(hidden=512, pooled=1500, embedding=512, scale=30.0, margin=0.4)
    assert info.config_model()().model_dump() == superb.model_dump()


@pytest.mark.tasks
def test_it_learns_voices_it_never_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's score: at most half of an untrained model's equal error rate."""
    manifests = prepare_tiny("voxceleb1-trials", tmp_path / "corpus")
    untrained = train_here(
        "asv", "asv-tiny", manifests, tmp_path / "untrained", monkeypatch, *UNTRAINED
    )
    trained = train_here("asv", "asv-tiny", manifests, tmp_path / "trained", monkeypatch)
    assert trained.metrics["eer"] <= untrained.metrics["eer"] / 2
