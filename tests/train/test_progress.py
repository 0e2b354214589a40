"""What a checkpoint's position and scores belong to: another order or other data is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.train.progress import Fingerprint, Progress, from_document, to_document
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.manifest import Utterance
from tests.exactness.launching import write_job
from tests.train.running import config_of


def utterance(path: str = "/here/a.flac", offset_s: float = 0.0, **fields: Any) -> Utterance:
    return Utterance("a", Path(path), offset_s, 1.0, {"id": "a", "path": path, **fields})


ONE = [utterance(text="YES")]


@pytest.fixture
def usual(tmp_path: Path) -> Fingerprint:
    return Fingerprint.of(config_of(write_job(tmp_path / "run"))[0], ONE, ONE)


def of(tmp_path: Path, train: list[Utterance], valid: list[Utterance]) -> Fingerprint:
    return Fingerprint.of(config_of(write_job(tmp_path / "other"))[0], train, valid)


def test_the_same_content_elsewhere_is_the_same(tmp_path: Path, usual: Fingerprint) -> None:
    moved = [utterance("/there/a.flac", text="YES")]
    assert of(tmp_path, moved, moved) == usual


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize(
    "other",
    [[utterance(text="NO")], [utterance(offset_s=0.5, text="YES")], [utterance()], [*ONE, *ONE]],
)
def test_other_content_of_a_split_is_refused(
    tmp_path: Path, usual: Fingerprint, split: str, other: list[Utterance]
) -> None:
    changed = of(tmp_path, **{"train": ONE, "valid": ONE, split: other})
    with pytest.raises(DataError, match=rf"restore the manifest of data\.{split} or start a new"):
        from_document(to_document(Progress(), usual), changed)


def test_fields_that_are_no_json_are_the_same_in_every_attempt(
    tmp_path: Path, usual: Fingerprint
) -> None:
    first, second = ([utterance(made=object())] for _ in range(2))
    assert of(tmp_path, first, first) == of(tmp_path / "x", second, second) != usual


def test_seed_and_micro_batches_are_refused(usual: Fingerprint) -> None:
    for other in (replace(usual, seed=9), replace(usual, micro_batches=9)):
        with pytest.raises(UsageError, match=r"seed and batch\.micro_batches can't change"):
            from_document(to_document(Progress(), usual), other)
