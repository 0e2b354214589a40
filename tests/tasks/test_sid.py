"""Speaker identification: VoxCeleb1 as it lies on disk, real speakers of digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config.compose import ConfigErrors, Request, compose
from orchestra.tasks import find_task
from orchestra.wire.errors import NotFoundError
from tasks.sid import tiny
from tasks.sid.prepare import prepare
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

LIST = """\
1 id10001/aBc-1/00001.wav
2 id10001/aBc-1/00002.wav
3 id10001/xYz_2/00001.wav
1 id10270/aBc-1/00001.wav
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two speakers, one in each of the corpus's two folders."""
    for name in LIST.splitlines():
        folder = "test/wav" if "id10270" in name else "dev/wav"
        write_noise(tmp_path / folder / name.split()[1])
    (tmp_path / "iden_split.txt").write_text(LIST)
    return tmp_path


def test_the_list_deals_the_recordings_of_both_folders(root: Path) -> None:
    prepared = prepare(root, root / "manifests")
    assert not prepared.problems
    ids = {split: [line["id"] for line in lines] for split, lines in prepared.splits.items()}
    assert ids == {
        "train": ["id10001-aBc-1-00001", "id10270-aBc-1-00001"],
        "dev": ["id10001-aBc-1-00002"],
        "test": ["id10001-xYz_2-00001"],
    }
    line = prepared.splits["train"][1]
    assert line["label"] == "id10270"
    assert line["path"] == "../test/wav/id10270/aBc-1/00001.wav"


def test_s3prls_name_of_the_list_is_known(root: Path) -> None:
    (root / "iden_split.txt").rename(root / "veri_test_class.txt")
    assert len(prepare(root, root).splits["train"]) == 2


def test_what_does_not_fit_is_named(root: Path) -> None:
    (root / "iden_split.txt").write_text(
        "1 id10001/aBc-1/00001.wav\n2 id10270/aBc-1/00001.wav\n3 id10001/gone/00001.wav\n7 what\n"
        "3 id10001/aBc-1/00001.wav\n"
    )
    write_noise(root / "dev/wav/id10001/more/00001.wav")
    places = kinds_of(prepare(root, root))
    (missing,) = places.pop("recordings of the list that are missing")
    assert missing.startswith("id10001/gone/00001.wav") and "line 3" in missing
    (line,) = places.pop("lines of the list that are not 1, 2 or 3 and a recording")
    assert line.startswith("what (") and "line 4" in line
    assert len(places.pop("recordings that the list does not name")) == 3
    (twice,) = places.pop("recordings that the list gives to two splits")
    assert twice.startswith("id10001/aBc-1/00001.wav (") and "line 5" in twice
    assert places.pop("speakers without a training recording") == ["id10270"]
    assert not places


def test_a_list_that_is_no_text_is_named(root: Path) -> None:
    (root / "iden_split.txt").write_bytes(b"1 id10001/\xe9/00001.wav\n")
    (place,) = kinds_of(prepare(root, root))["unreadable files"]
    assert place == f"{root / 'iden_split.txt'}: not UTF-8 (byte 11)"


def test_another_layout_is_told_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"expected dev/wav and test/wav"):
        prepare(tmp_path, tmp_path)
    write_noise(tmp_path / "dev/wav/id10001/a/00001.wav")
    with pytest.raises(NotFoundError, match=r"expected iden_split\.txt or veri_test_class\.txt"):
        prepare(tmp_path, tmp_path)


def test_the_preset_is_superbs_recipe(tmp_path: Path) -> None:
    assert find_task("voxceleb1", tmp_path).name == "sid"
    config = compose(Request(tmp_path, "sid")).config
    assert (config.optim.kind, config.optim.lr, config.schedule.kind) == ("adam", 1e-4, "constant")
    assert (config.train.max_steps, config.train.eval_every) == (200_000, 5_000)
    assert config.task.head.kind == "superb"
    assert config.augment.crop_s == 8.0
    assert config.batch.micro_batches == 4


@pytest.mark.parametrize("preset", ["sid-tiny", "sid-digits"])
def test_small_presets_cut_as_the_recipe_does(tmp_path: Path, preset: str) -> None:
    config = compose(Request(tmp_path, "sid", presets=(preset,))).config
    assert config.augment.crop_s == 8.0
    assert config.task.head.kind == "small"


def test_other_speeds_are_other_voices(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"augment\.speed.*voice|sid|true"):
        compose(Request(tmp_path, "sid", sets=("augment.speed.factors=[0.9,1.1]",)))


def test_the_tiny_corpus_has_the_real_layout_and_new_videos_in_test(tmp_path: Path) -> None:
    tiny.make(tmp_path, 1)
    prepared = prepare(tmp_path, tmp_path)
    assert not prepared.problems
    videos = {
        split: {line["id"].rsplit("-", 1)[0] for line in lines}
        for split, lines in prepared.splits.items()
    }
    assert not videos["test"] & (videos["train"] | videos["dev"])
    train, test = prepared.splits["train"], prepared.splits["test"]
    assert accuracy_by_length(train, test, "label") < 2 * 12.5


@pytest.mark.tasks
def test_the_tiny_corpus_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = prepare_tiny("voxceleb1", tmp_path / "corpus")
    trained = train_here("sid", "sid-tiny", manifests, tmp_path, monkeypatch)
    assert trained.metrics["accuracy"] >= 60


@needs_fsdd
@pytest.mark.needs_fsdd
@pytest.mark.tasks
def test_real_speakers_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = prepare_corpus(corpus_named("digits-sid"), FSDD, tmp_path / "manifests")
    trained = train_here("sid", "sid-digits", manifests, tmp_path, monkeypatch)
    assert trained.metrics["accuracy"] >= 95
