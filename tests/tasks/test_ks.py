"""Keyword spotting: Speech Commands as it lies on disk, weights of classes, real digits."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight

from orchestra.config.compose import Request, compose
from orchestra.config.schema import DataConfig
from orchestra.tasks import Batch, find_task
from orchestra.wire.errors import NotFoundError
from orchestra.wire.manifest import Utterance
from tasks.ks import tiny
from tasks.ks.config import Config
from tasks.ks.prepare import (
    NOISE,
    SILENCE,
    TEST_FOLDER,
    TRAIN_FOLDER,
    UNKNOWN,
    WORDS,
    prepare,
    which_split,
)
from tasks.ks.task import Task
from tests.tasks.training import (
    FSDD,
    accuracy_by_length,
    corpus_named,
    kinds_of,
    needs_fsdd,
    prepare_corpus,
    prepare_tiny,
    train_here,
    write_noise,
)

# Speakers as the corpus's own lists have them.
TRAINED, VALIDATED, TESTED = "0a7c2a8d", "026290a7", "0c40e715"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve words, a speaker of each split; a noise of 20 s."""
    folder = tmp_path / "corpus"
    for word in (*WORDS, "bed", "cat"):
        for speaker in (TRAINED, VALIDATED, TESTED):
            write_noise(folder / word / f"{speaker}_nohash_0.wav")
    write_noise(folder / NOISE / "pink_noise.wav", 20.5)
    return folder


def add_tests(folder: Path) -> None:
    for name in (*WORDS, UNKNOWN, SILENCE):
        write_noise(folder / name / "fresh_nohash_0.wav")


def test_speakers_are_dealt_as_the_corpuss_own_lists_deal_them() -> None:
    for speaker in ("026290a7", "060cd039", "099d52ad"):
        assert which_split(f"{speaker}_nohash_0.wav") == "dev"
    for speaker in ("0c40e715", "0ea0e2f4", "42beb5eb", "44260689", "44715c1c", "022cd682"):
        assert which_split(f"{speaker}_nohash_3.wav") == "test"
    shares = Counter(which_split(f"{number:08x}_nohash_0.wav") for number in range(4000))
    assert 0.08 < shares["dev"] / 4000 < 0.12
    assert 0.08 < shares["test"] / 4000 < 0.12


def test_ten_words_are_classes_and_the_others_unknown(root: Path) -> None:
    prepared = prepare(root, root / "manifests")
    assert not prepared.problems
    labels = Counter(line["label"] for line in prepared.splits["train"])
    assert labels == {**dict.fromkeys(WORDS, 1), UNKNOWN: 2, SILENCE: 16}
    line = next(each for each in prepared.splits["dev"] if each["label"] == "yes")
    assert line["id"] == f"yes-{VALIDATED}_nohash_0"
    assert (root / "manifests" / line["path"]).resolve().is_file()


def test_silence_is_slices_of_noise_none_in_two_splits(root: Path) -> None:
    splits = prepare(root, root).splits
    offsets = {
        split: [line["offset_s"] for line in lines if line["label"] == SILENCE]
        for split, lines in splits.items()
    }
    assert offsets["dev"] == [8.0, 18.0]
    assert offsets["test"] == [9.0, 19.0]
    assert sorted(chain(*offsets.values())) == [float(second) for second in range(20)]


def test_lists_decide_where_they_are(root: Path) -> None:
    (root / "validation_list.txt").write_text(f"yes/{TRAINED}_nohash_0.wav\n")
    (root / "testing_list.txt").write_text(
        f"no/{TRAINED}_nohash_0.wav\nno/nobody_nohash_0.wav\nyes/{TRAINED}_nohash_0.wav\n"
    )
    prepared = prepare(root, root)
    ids = {
        split: [line["id"] for line in lines if line["label"] != SILENCE]
        for split, lines in prepared.splits.items()
    }
    assert ids["dev"] == [f"yes-{TRAINED}_nohash_0"]
    assert ids["test"] == [f"no-{TRAINED}_nohash_0"]
    (where,) = kinds_of(prepared)["recordings in a list that are missing"]
    assert where.startswith("no/nobody_nohash_0.wav") and "testing_list.txt, line 2" in where
    (where,) = kinds_of(prepared)["recordings in both lists"]
    assert where.startswith(f"yes/{TRAINED}_nohash_0.wav") and "testing_list.txt, line 3" in where


def test_one_list_without_the_other_is_a_problem(root: Path) -> None:
    (root / "validation_list.txt").write_text("")
    (where,) = kinds_of(prepare(root, root))["lists missing beside the other one"]
    assert where.endswith("testing_list.txt")


@pytest.mark.parametrize("beside", [True, False])
def test_the_separate_test_set_is_the_test_split(tmp_path: Path, root: Path, beside: bool) -> None:
    both = tmp_path / "both"
    both.mkdir()
    root.rename(both / TRAIN_FOLDER)
    add_tests(both / TEST_FOLDER if beside else both / TRAIN_FOLDER / TEST_FOLDER)
    for folder in (both, both / TRAIN_FOLDER):
        prepared = prepare(folder, both)
        assert not prepared.problems
        assert len(prepared.splits["test"]) == 12
        assert {line["label"] for line in prepared.splits["test"]} == {*WORDS, UNKNOWN, SILENCE}


def test_what_is_missing_is_named(tmp_path: Path, root: Path) -> None:
    for path in (root / "stop").iterdir():
        path.unlink()
    (root / NOISE / "pink_noise.wav").unlink()
    (root / "go" / f"{TRAINED}_nohash_0.wav").write_bytes(b"")
    add_tests(root.parent / TEST_FOLDER)
    (root.parent / TEST_FOLDER / SILENCE / "fresh_nohash_0.wav").unlink()
    places = kinds_of(prepare(root, root))
    assert places.pop("words without a recording") == [str(root / "stop")]
    assert places.pop("folders without background noise") == [str(root / NOISE)]
    assert places.pop("classes of the test set without a recording") == [
        str(root.parent / TEST_FOLDER / SILENCE)
    ]
    (unreadable,) = places.pop("unreadable recordings")
    assert "go/0a7c2a8d_nohash_0.wav" in unreadable
    assert not places


def test_another_layout_is_told_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no Speech Commands in .*expected folders yes, no"):
        prepare(tmp_path, tmp_path)


def task_of(class_weights: str) -> Task:
    """Three utterances of `a`, one of `b`."""
    task = Task(Config(class_weights=class_weights), DataConfig())
    task.recall({"classes": {"label": {"a": 3, "b": 1}}})
    return task


def test_balanced_weights_are_scikit_learns_and_their_mean_is_one() -> None:
    numbers = torch.tensor([[0], [0], [0], [1]])
    weights = task_of("balanced").weights(numbers)
    expected = compute_sample_weight("balanced", numbers[:, 0].numpy())
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32))
    assert weights.mean() == 1.0
    assert task_of("none").weights(numbers).tolist() == [1.0] * 4


def test_the_balanced_loss_is_torchs_weighted_cross_entropy() -> None:
    task = task_of("balanced")
    utterances = [
        Utterance(f"u{n}", Path("x"), 0.0, 1.0, {"label": name}) for n, name in enumerate("aab")
    ]
    targets = task.collate([task.target(each) for each in utterances])
    lengths = torch.tensor([4, 2, 4])
    features = torch.randn(3, 4, 6)
    torch.manual_seed(0)
    head = task.build_head(6, 160)
    batch = Batch(["u0", "u1", "u2"], torch.zeros(3, 1), lengths, targets, [0] * 3, utterances)
    terms = task.loss(head, features, lengths, batch)
    expected = torch.nn.functional.cross_entropy(
        head(features, lengths), torch.tensor([0, 0, 1]), weight=torch.tensor([4 / 6, 2.0])
    )
    torch.testing.assert_close(terms.sum / terms.weight, expected)
    assert terms.outputs is not None
    torch.testing.assert_close(terms.outputs.weights.sum(), terms.weight)


def test_the_preset_is_superbs_recipe(tmp_path: Path) -> None:
    assert find_task("speech_commands", tmp_path).name == "ks"
    config = compose(Request(tmp_path, "ks")).config
    assert (config.optim.kind, config.optim.lr, config.schedule.kind) == ("adam", 1e-4, "constant")
    assert (config.train.max_steps, config.train.eval_every) == (200_000, 5_000)
    assert config.task.head.kind == "superb"
    assert config.task.class_weights == "balanced"
    assert config.upstream.cmvn is False  # the head takes the mean over time
    assert config.batch.micro_batches == 4


def test_the_tiny_corpus_has_the_real_layout_and_new_voices_in_test(tmp_path: Path) -> None:
    tiny.make(tmp_path, 1)
    prepared = prepare(tmp_path, tmp_path)
    assert not prepared.problems
    speakers = {
        split: {each["id"].split("-")[1][:8] for each in lines if each["label"] in WORDS}
        for split, lines in prepared.splits.items()
    }
    assert [len(speakers[split]) for split in ("train", "dev", "test")] == [10, 3, 3]
    assert not speakers["test"] & (speakers["train"] | speakers["dev"])
    train, test = prepared.splits["train"], prepared.splits["test"]
    assert accuracy_by_length(train, test, "label") < 25  # always SILENCE is right for 1 in 12


@pytest.mark.tasks
def test_the_tiny_corpus_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = prepare_tiny("speech_commands", tmp_path / "corpus")
    trained = train_here("ks", "ks-tiny", manifests, tmp_path, monkeypatch)
    assert trained.metrics["accuracy"] >= 70


@needs_fsdd
@pytest.mark.needs_fsdd
def test_no_take_of_a_digit_is_in_two_splits(tmp_path: Path) -> None:
    prepared = corpus_named("digits-ks").prepare(FSDD, tmp_path)
    takes = {
        split: {line["id"].split("_", 1)[1] for line in lines}
        for split, lines in prepared.splits.items()
    }
    assert not takes["train"] & takes["test"] and not takes["dev"] & takes["test"]
    assert {len({line["label"] for line in lines}) for lines in prepared.splits.values()} == {10}


@needs_fsdd
@pytest.mark.needs_fsdd
@pytest.mark.tasks
def test_real_digits_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = prepare_corpus(corpus_named("digits-ks"), FSDD, tmp_path / "manifests")
    trained = train_here("ks", "ks-digits", manifests, tmp_path, monkeypatch)
    assert trained.metrics["accuracy"] >= 95
