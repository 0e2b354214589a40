"""Manifests: any transcript survives; what can't be read is named by file and line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import (
    manifest_sha256,
    read_manifest,
    read_summary,
    summary_path,
    write_manifest,
)

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


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"count": 1, "seconds": "?"}', "null", None])
def test_without_a_summary_of_use_the_manifest_is_counted(tmp_path: Path, text: str | None) -> None:
    lines = [{**LINE, "text": "one two"}, {**LINE, "id": "b", "duration_s": 2.5, "text": "two"}]
    made = write_manifest(tmp_path, "train", lines, "a test")
    path = summary_path(tmp_path, "train")
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert read_summary(tmp_path, "train") == dataclasses.replace(made, prepared_by="")
    assert (made.count, made.seconds, made.longest_s, made.words) == (2, 3.5, 2.5, 2)


def test_a_summary_of_an_edited_manifest_is_not_believed(tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [LINE, {**LINE, "id": "b"}], "a test")
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(json.dumps({**LINE, "id": "c"}) + "\n")
    assert read_summary(tmp_path, "train").count == 3


def test_a_summary_alone_is_no_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path, "dev", [LINE], "a test")
    (tmp_path / "dev.jsonl").rename(tmp_path / "valid.jsonl")
    with pytest.raises(NotFoundError, match=r"no manifest of split 'dev' in .*: it has valid"):
        read_summary(tmp_path, "dev")


def write_parts(folder: Path, **splits: str) -> None:
    """A manifest for each keyword; each letter of its value is the id of an utterance of 1 s."""
    for split, ids in splits.items():
        write_manifest(folder, split, [{**LINE, "id": name, "text": name} for name in ids], split)


def test_a_joint_split_is_its_parts_in_order(tmp_path: Path) -> None:
    write_parts(tmp_path, one="ab", two="dc", three="e")
    assert [u.id for u in read_manifest(tmp_path, "two+one+three")] == list("dcabe")
    summary = read_summary(tmp_path, "two+one+three")
    assert (summary.count, summary.seconds, summary.longest_s) == (5, 5.0, 1.0)
    assert summary.prepared_by == "two; one; three"
    assert read_summary(tmp_path, "one") == dataclasses.replace(
        summary, count=2, seconds=2.0, prepared_by="one"
    )


def test_an_id_in_two_parts_is_an_error_that_names_both(tmp_path: Path) -> None:
    write_parts(tmp_path, one="ab", two="cb")
    with pytest.raises(DataError, match="id 'b' stands in 'one' and in 'two'"):
        read_manifest(tmp_path, "one+two")
    with pytest.raises(DataError, match="id 'a' stands in 'one' and in 'one'"):
        read_manifest(tmp_path, "one+one")


@pytest.mark.parametrize("split", ["one+two", "two+one"])
def test_a_missing_part_is_named(tmp_path: Path, split: str) -> None:
    write_parts(tmp_path, one="ab")
    for read in (read_manifest, read_summary):
        with pytest.raises(NotFoundError, match=r"no manifest of split 'two' .*: it has one"):
            read(tmp_path, split)
    assert manifest_sha256(tmp_path, split) is None


def test_the_hash_of_a_joint_split_is_of_its_parts(tmp_path: Path) -> None:
    write_parts(tmp_path, one="ab", two="c")
    one = manifest_sha256(tmp_path, "one")
    assert one == hashlib.sha256((tmp_path / "one.jsonl").read_bytes()).hexdigest()
    joint = manifest_sha256(tmp_path, "one+two")
    assert joint not in (one, None)
    assert joint != manifest_sha256(tmp_path, "two+one")
    write_parts(tmp_path, two="d")
    assert joint != manifest_sha256(tmp_path, "one+two")
