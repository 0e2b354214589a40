"""Intent classification: Fluent Speech Commands as it lies on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config.compose import Request, compose
from orchestra.tasks import find_task
from orchestra.wire.errors import NotFoundError
from tasks.ic import tiny
from tasks.ic.prepare import SLOTS, TABLES, prepare
from tests.tasks.training import (
    accuracy_by_length,
    kinds_of,
    prepare_tiny,
    train_here,
    write_noise,
)

HEADER = ",path,speakerId,transcription,action,object,location\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One recording in each table."""
    for split, table in TABLES.items():
        path = f"wavs/speakers/{split}/{split}-1.wav"
        write_noise(tmp_path / path)
        (tmp_path / table).parent.mkdir(exist_ok=True)
        text = f'0,{path},{split},"Lights on, please",activate,lights,none\n'
        (tmp_path / table).write_text(HEADER + text)
    return tmp_path


def test_the_tables_become_splits_with_three_slots(root: Path) -> None:
    prepared = prepare(root, root / "manifests")
    assert not prepared.problems
    assert list(prepared.splits) == ["train", "dev", "test"]
    assert prepared.splits["dev"] == [
        {
            "id": "dev-dev-1",
            "path": "../wavs/speakers/dev/dev-1.wav",
            "offset_s": 0.0,
            "duration_s": 0.1,
            "text": "Lights on, please",
            "speaker": "dev",
            "action": "activate",
            "object": "lights",
            "location": "none",
        }
    ]


def test_what_is_missing_is_named_with_its_place(root: Path) -> None:
    table = root / TABLES["train"]
    table.write_text(
        table.read_text()
        + "1,wavs/speakers/x/gone.wav,x,Text,activate,lights,none\n"
        + "2,wavs/speakers/train/train-1.wav,x,Text,activate,,none\n"
    )
    (root / TABLES["dev"]).write_text(HEADER.replace(",object", ""))
    (root / TABLES["test"]).unlink()
    assert kinds_of(prepare(root, root)) == {
        "recordings in a table that are missing": [f"wavs/speakers/x/gone.wav ({table}, line 3)"],
        "lines with empty cells": [f"object ({table}, line 4)"],
        "tables that lack a column": [f"{root / TABLES['dev']}: no column object"],
        "tables that are missing": [str(root / TABLES["test"])],
    }


def test_a_table_in_another_encoding_is_named(root: Path) -> None:
    (root / TABLES["test"]).write_bytes(HEADER.encode() + b"0,a.wav,x,caf\xe9,a,b,c\n")
    (where,) = kinds_of(prepare(root, root))["tables that can't be read"]
    assert where.startswith(str(root / TABLES["test"]))


def test_another_layout_is_told_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"expected data/train_data\.csv"):
        prepare(tmp_path, tmp_path)


def test_the_preset_is_superbs_recipe(tmp_path: Path) -> None:
    assert find_task("fluent_commands", tmp_path).name == "ic"
    config = compose(Request(tmp_path, "ic")).config
    assert (config.optim.kind, config.optim.lr, config.schedule.kind) == ("adam", 1e-4, "constant")
    assert (config.train.max_steps, config.train.eval_every) == (200_000, 5_000)
    assert config.task.head.kind == "superb"


def test_the_task_scores_each_slot(tmp_path: Path) -> None:
    assert list(find_task("ic", tmp_path).task_class().metrics) == [
        "accuracy",
        *(f"{slot}_accuracy" for slot in SLOTS),
    ]


def test_the_tiny_corpus_has_the_real_layout_and_new_voices_in_test(tmp_path: Path) -> None:
    tiny.make(tmp_path, 1)
    prepared = prepare(tmp_path, tmp_path)
    assert not prepared.problems
    speakers = {split: {each["speaker"] for each in x} for split, x in prepared.splits.items()}
    assert not speakers["test"] & (speakers["train"] | speakers["dev"])
    train, test = prepared.splits["train"], prepared.splits["test"]
    assert accuracy_by_length(train, test, *SLOTS) < 3 * 100 / 27


@pytest.mark.tasks
def test_the_tiny_corpus_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = prepare_tiny("fluent_commands", tmp_path / "corpus")
    trained = train_here("ic", "ic-tiny", manifests, tmp_path, monkeypatch)
    assert trained.metrics["accuracy"] >= 50
