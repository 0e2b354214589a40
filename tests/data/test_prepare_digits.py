from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.data import digits
from orchestra.data.audio import read_audio
from orchestra.data.prepare import main
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import read_manifest, splits_in

JOINS = {"train": 24, "dev": 6, "test": 8}
REAL = Path(__file__).parents[3] / "shared" / "data" / "fsdd"


@pytest.fixture(autouse=True)
def few_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "JOINS", JOINS)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two speakers, ten digits, four takes; a tone of the digit's own height."""
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for digit, speaker, take in itertools.product(range(10), ("ann", "bob"), range(5, 9)):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 100 * digit) * np.arange(1600) / 8000)
        soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", tone, 8000)
    return folder


def prepare(capfd: pytest.CaptureFixture[str], root: Path, out: Path) -> tuple[int, Any, str]:
    code = main(["digits", "--root", str(root), "--out", str(out)])
    captured = capfd.readouterr()
    return code, json.loads(captured.out) if captured.out else None, captured.err


def test_joins_hold_what_their_text_says(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document, err = prepare(capfd, recordings.parent, tmp_path / "out")
    assert code == ExitCode.OK
    assert "artificial" in err
    assert {split: part["count"] for split, part in document["splits"].items()} == JOINS
    for utterance in read_manifest(tmp_path / "out" / "manifests", "test"):
        words = utterance.fields["text"].split()
        takes = utterance.fields["takes"]
        assert 2 <= len(words) <= 8
        assert words == [digits.WORDS[int(take[0])] for take in takes]
        assert {take.split("_")[1] for take in takes} == {utterance.fields["speaker"]}
        samples = read_audio(utterance)
        pauses_s = len(samples) / 16000 - 0.2 * len(words)
        assert 0.05 * (len(words) - 1) <= pauses_s <= 0.25 * (len(words) - 1)
        spectrum = np.abs(np.fft.rfft(samples[:3200]))
        assert np.argmax(spectrum) * 5 == 200 + 100 * int(takes[0][0])


def test_no_take_is_in_two_splits_and_the_lowest_are_held_out(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare(capfd, recordings, tmp_path / "out")
    numbers = {
        split: {
            int(take.removesuffix(".wav").split("_")[2])
            for utterance in read_manifest(tmp_path / "out" / "manifests", split)
            for take in utterance.fields["takes"]
        }
        for split in JOINS
    }
    assert numbers["test"] == {5}
    assert numbers["dev"] == {6}
    assert numbers["train"] <= {7, 8}


def test_the_same_recordings_give_the_same_bytes_and_a_second_run_replaces(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare(capfd, recordings, tmp_path / "one")
    prepare(capfd, recordings, tmp_path / "two")
    (tmp_path / "two" / "audio" / "train" / "stale.flac").write_bytes(b"")
    (tmp_path / "two" / ".partial-audio").mkdir()
    assert prepare(capfd, recordings, tmp_path / "two")[0] == ExitCode.OK
    one, two = (
        {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and not path.name.endswith("summary.json")
        }
        for name in ("one", "two")
    )
    assert one == two
    assert len([name for name in one if name.endswith(".flac")]) == sum(JOINS.values())


def test_unreadable_recordings_are_all_named_and_nothing_is_written(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (recordings / "3_ann_7.wav").write_bytes(b"")
    (recordings / "4_bob_8.wav").write_bytes(b"no audio here")
    code, document, err = prepare(capfd, recordings, tmp_path / "out")
    assert code == ExitCode.FAILED
    assert document["counts"] == {"unreadable recordings": 2}
    assert "3_ann_7.wav" in err and "4_bob_8.wav" in err
    assert not (tmp_path / "out").exists()


def test_other_names_are_left_out_and_said(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(recordings / "eleven_ann_0.wav", np.zeros(800), 8000)
    code, _, err = prepare(capfd, recordings, tmp_path / "out")
    assert code == ExitCode.OK
    assert "eleven_ann_0.wav: left out" in err


def test_a_folder_without_recordings_is_not_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = prepare(capfd, tmp_path, tmp_path / "out")
    assert code == ExitCode.NOT_FOUND
    assert "{digit}_{speaker}_{take}.wav" in err


def test_too_few_takes_to_part_them_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for take in range(2):
        soundfile.write(tmp_path / f"1_ann_{take}.wav", np.full(800, 0.1), 8000)
    code, _, err = prepare(capfd, tmp_path, tmp_path / "out")
    assert code == ExitCode.FAILED
    assert "'ann' has 2 takes" in err


def test_a_folder_with_something_else_is_refused(
    recordings: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    code, _, err = prepare(capfd, recordings, tmp_path / "out")
    assert code == ExitCode.CONFLICT
    assert "choose an empty or new folder" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.needs_fsdd
@pytest.mark.skipif(not REAL.is_dir(), reason="the real digit recordings are not here")
def test_the_real_recordings_become_splits_with_all_digits(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document, _ = prepare(capfd, REAL, tmp_path / "out")
    assert code == ExitCode.OK
    assert splits_in(tmp_path / "out" / "manifests") == ["dev", "test", "train"]
    assert document["splits"]["train"]["words"] == 10
    assert {u.fields["speaker"] for u in read_manifest(tmp_path / "out" / "manifests", "test")} == {
        "george",
        "jackson",
        "lucas",
        "nicolas",
    }
