"""Emotion recognition: IEMOCAP as it lies on disk, five folds of sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestra.config.compose import Request, compose
from orchestra.wire.errors import NotFoundError
from tasks.er import tiny
from tasks.er.config import Config
from tasks.er.prepare import SESSIONS, prepare
from tests.tasks.training import (
    accuracy_by_length,
    kinds_of,
    prepare_tiny,
    train_here,
    write_noise,
)

RAW = ("neu", "hap", "exc", "ang", "sad")


def ratings_of(root: Path, session: int) -> Path:
    folder = root / f"Session{session}" / "dialog" / "EmoEvaluation"
    return folder / f"Ses{session:02d}F_impro01.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five utterances of each of the emotions, and three of others, in each session."""
    for session in SESSIONS:
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"]
        for number, emotion in enumerate([*RAW * 5, "fru", "xxx", "sur"]):
            name = f"Ses{session:02d}F_impro01_M{number:03d}"
            lines.append(f"[6.2901 - 8.2357]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n")
            lines.append("C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n")
            wavs = tmp_path / f"Session{session}" / "sentences" / "wav"
            write_noise(wavs / name.rpartition("_")[0] / f"{name}.wav")
        ratings_of(tmp_path, session).parent.mkdir(parents=True)
        ratings_of(tmp_path, session).write_text("".join(lines))
    return tmp_path


def test_four_emotions_are_used_and_excitement_is_happiness(root: Path) -> None:
    prepared = prepare(root, root / "manifests")
    assert not prepared.problems
    test = prepared.splits["fold3-test"]
    labels = [line["label"] for line in test]
    assert {label: labels.count(label) for label in labels} == {
        "neu": 5,
        "hap": 10,
        "ang": 5,
        "sad": 5,
    }
    assert test[0] == {
        "id": "Ses03F_impro01_M000",
        "path": "../Session3/sentences/wav/Ses03F_impro01/Ses03F_impro01_M000.wav",
        "offset_s": 0.0,
        "duration_s": 0.1,
        "label": "neu",
        "speaker": "Ses03M",
    }


def test_each_fold_tests_on_its_session_and_deals_the_others(root: Path) -> None:
    splits = prepare(root, root).splits
    assert len(splits) == 15
    for fold in SESSIONS:
        ids = {
            split: {line["id"] for line in splits[f"fold{fold}-{split}"]}
            for split in ("train", "dev", "test")
        }
        assert {id_[:5] for id_ in ids["test"]} == {f"Ses0{fold}"}
        assert not any(id_.startswith(f"Ses0{fold}") for id_ in ids["train"] | ids["dev"])
        assert not ids["train"] & ids["dev"]
        assert (len(ids["train"]), len(ids["dev"])) == (80, 20)
        assert {line["label"] for line in splits[f"fold{fold}-dev"]} == {"neu", "hap", "ang", "sad"}


def test_a_fifth_is_for_dev_by_a_rule_that_other_folds_share(root: Path) -> None:
    splits = prepare(root, root).splits
    dev = [{line["id"] for line in splits[f"fold{fold}-dev"]} for fold in SESSIONS]
    assert dev[0] - dev[1] == {id_ for id_ in dev[0] if id_.startswith("Ses02")}
    assert len(dev[0] & dev[1]) == 15


def test_what_is_missing_is_named_with_its_place(root: Path) -> None:
    gone = root / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_M001.wav"
    gone.unlink()
    ratings_of(root, 4).unlink()
    ratings = ratings_of(root, 5)
    ratings.write_text(ratings.read_text().replace("\tsad\t", "\txxx\t"))
    spaced = ratings_of(root, 1)
    spaced.write_text(spaced.read_text() + "[1.0 - 2.0] Ses01F_impro01_M099 sad\n")
    last = len(spaced.read_text().splitlines())
    ratings.with_name("._" + ratings.name).write_bytes(b"\x00\x05\x16\x07")
    assert kinds_of(prepare(root, root)) == {
        "rated utterances without a recording": [f"{gone} ({ratings_of(root, 2)}, line 7)"],
        "sessions without ratings": [f"{ratings_of(root, 4).parent}/<dialog>.txt"],
        "sessions without an emotion": [f"{root / 'Session5'}: sad"],
        "malformed lines": [f"{spaced}, line {last}: '[1.0 - 2.0] Ses01F_impro01_M099 sad'"],
    }


def test_another_layout_is_told_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"expected Session1 to Session5"):
        prepare(tmp_path, tmp_path)


@pytest.mark.parametrize("fold", [1, 4])
def test_the_presets_splits_follow_the_fold_also_by_s3prls_name(tmp_path: Path, fold: int) -> None:
    config = compose(Request(tmp_path, "emotion", sets=(f"task.fold={fold}",))).config
    data = config.data
    assert (data.train, data.valid) == (f"fold{fold}-train", f"fold{fold}-dev")
    assert data.test == [f"fold{fold}-test"]
    assert (config.optim.kind, config.optim.lr) == ("adam", 1e-4)
    assert (config.train.max_steps, config.train.eval_every) == (30_000, 1_000)
    assert config.task.head.kind == "superb"


@pytest.mark.parametrize("fold", [0, 6])
def test_there_are_five_folds(fold: int) -> None:
    with pytest.raises(ValidationError):
        Config(fold=fold)


def test_the_tiny_corpus_has_the_real_layout_and_new_voices_in_test(tmp_path: Path) -> None:
    tiny.make(tmp_path, 1)
    prepared = prepare(tmp_path, tmp_path)
    assert not prepared.problems
    speakers = {split: {each["speaker"] for each in x} for split, x in prepared.splits.items()}
    assert not speakers["fold2-test"] & (speakers["fold2-train"] | speakers["fold2-dev"])
    told = [
        accuracy_by_length(
            prepared.splits[f"fold{fold}-train"], prepared.splits[f"fold{fold}-test"], "label"
        )
        for fold in SESSIONS
    ]
    assert sum(told) / len(told) < 2 * 25


@pytest.mark.tasks
def test_the_tiny_corpus_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = prepare_tiny("iemocap", tmp_path / "corpus")
    trained = train_here("er", "er-tiny", manifests, tmp_path, monkeypatch)
    assert trained.metrics["accuracy"] >= 75
