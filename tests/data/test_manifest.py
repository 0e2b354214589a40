"""Manifests: any transcript survives; what can't be read is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import read_manifest, read_summary, summary_path, write_manifest

LINE = {"id": "a", "path": "a.flac", "duration_s": 1.0}


def test_every_character_of_a_transcript_survives(tmp_path: Path) -> None:
    texts = ["one\u2028two", "\u0085", "\x1c\x1d\x1e", "a\r\nb", "\u2029"]
    lines = [{**LINE, "id": str(number), "text": text} for number, text in enumerate(texts)]
    write_manifest(tmp_path, "train", lines, "a test")
    assert [u.fields["text"] for u in read_manifest(tmp_path, "train")] == texts


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    rows = [json.dumps({**LINE, "id": name}) for name in "ab"]
    (tmp_path / "train.jsonl").write_bytes(((end or "\n").join(rows) + end).encode())
    assert [u.id for u in read_manifest(tmp_path, "train")] == ["a", "b"]


def test_an_empty_manifest_has_no_utterances(tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [], "a test")
    assert read_manifest(tmp_path, "train") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "b", "text": "\xff"}', r"train.jsonl, line 2: not UTF-8 \(byte 22"),
        (b"{", r"train.jsonl, line 2: not an utterance"),
        (b"", r"train.jsonl, line 2: not an utterance"),
        (b"[]", r"train.jsonl, line 2: not an utterance"),
        (json.dumps(LINE).encode(), r"train.jsonl, line 2: id 'a' already stands in line 1"),
    ],
)
def test_what_is_no_utterance_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    first, last = json.dumps(LINE).encode(), json.dumps({**LINE, "id": "c"}).encode()
    (tmp_path / "train.jsonl").write_bytes(b"\n".join((first, line, last, b"")))
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path, "train")


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").mkdir()  # an OSError for root too
    with pytest.raises(DataError, match=r"cannot read .*train\.jsonl: Is a directory"):
        read_manifest(tmp_path, "train")


def test_a_summary_of_a_newer_version_is_read(tmp_path: Path) -> None:
    summary = write_manifest(tmp_path, "train", [LINE], "a test")
    path = summary_path(tmp_path, "train")
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2, "speakers": 7}))
    assert read_summary(tmp_path, "train") == summary


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"count": 1, "seconds": "?"}', "null"])
def test_a_broken_summary_is_named(tmp_path: Path, text: str) -> None:
    write_manifest(tmp_path, "train", [LINE], "a test")
    summary_path(tmp_path, "train").write_text(text)
    with pytest.raises(DataError, match=r"train\.summary\.json.*prepare the data again"):
        read_summary(tmp_path, "train")


def test_a_missing_summary_is_not_called_a_missing_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [LINE], "a test")
    summary_path(tmp_path, "train").unlink()
    with pytest.raises(NotFoundError, match=r"train\.jsonl has no train\.summary\.json beside it"):
        read_summary(tmp_path, "train")
