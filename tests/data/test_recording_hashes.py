"""Each recording is hashed once, whoever asks, until it changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from orchestra.data import recording_hashes
from orchestra.data.recording_hashes import RecordingHashes


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF one")
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever changed, nobody is at it any more."""
    monkeypatch.setattr(recording_hashes, "_RACY_S", -1.0)


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files whose bytes are read."""
    real, names = hashlib.file_digest, list[str]()

    def digest(file: object, kind: str) -> object:
        names.append(Path(file.name).name)  # type: ignore[attr-defined]
        return real(file, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(recording_hashes.hashlib, "file_digest", digest)
    return names


@pytest.mark.usefixtures("long_ago")
def test_a_file_is_read_once_by_all_processes(
    wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = hashed(monkeypatch)
    first, beside = RecordingHashes(tmp_path / "h"), RecordingHashes(tmp_path / "h")
    truth = hashlib.sha256(b"RIFF one").hexdigest()
    assert beside.of(tmp_path / "a.wav") == first.of(wav) == first.of(wav) == truth
    assert RecordingHashes(tmp_path / "h").of(wav) == truth
    assert names == ["a.wav"]


@pytest.mark.usefixtures("long_ago")
def test_a_changed_file_has_another_hash(wav: Path, tmp_path: Path) -> None:
    hashes = RecordingHashes(tmp_path / "h")
    before = hashes.of(wav)
    wav.write_bytes(b"RIFF two")  # of the same size
    assert hashes.of(wav) != before
    other = tmp_path / "b.wav"
    other.write_bytes(b"RIFF one")
    os.utime(other, (1e9, 1e9))
    other.replace(wav)  # size and time are as they were
    assert hashes.of(wav) == before


@pytest.mark.usefixtures("long_ago")
def test_a_file_changed_in_place_has_another_hash_whatever_time_it_claims(
    wav: Path, tmp_path: Path
) -> None:
    """As programs leave it that keep the time: same name, size, inode and time of modification."""
    hashes = RecordingHashes(tmp_path / "h")
    before, changed_ns = hashes.of(wav), wav.stat().st_ctime_ns
    while wav.stat().st_ctime_ns == changed_ns:  # within one tick of the disk's clock
        wav.write_bytes(b"RIFF two")
        os.utime(wav, (1e9, 1e9))
    assert hashes.of(wav) != before


def test_a_file_that_was_just_modified_is_not_known_again(
    wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = hashed(monkeypatch)
    hashes = RecordingHashes(tmp_path / "h")
    hashes.of(wav)
    hashes.of(wav)
    assert len(names) == 2


@pytest.mark.usefixtures("long_ago")
def test_torn_lines_are_passed_over(
    wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = RecordingHashes(tmp_path / "h").of(wav)
    (lines,) = (tmp_path / "h").iterdir()
    whole = lines.read_bytes()
    lines.write_bytes(whole[:50])
    names = hashed(monkeypatch)
    assert RecordingHashes(tmp_path / "h").of(wav) == truth
    assert names == ["a.wav"]
    lines.write_bytes(whole[:50] + b"\n" + whole)
    assert RecordingHashes(tmp_path / "h").of(wav) == truth
    assert names == ["a.wav"]


def test_a_folder_that_cannot_be_written_costs_no_more_than_the_hash(
    wav: Path, tmp_path: Path
) -> None:
    (tmp_path / "h").write_text("a file")
    assert RecordingHashes(tmp_path / "h").of(wav)
