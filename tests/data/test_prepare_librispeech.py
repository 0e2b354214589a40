from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestra.data.audio import encode_flac, read_audio
from orchestra.data.prepare import main
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import read_manifest, read_summary, splits_in


def add_chapter(root: Path, split: str, speaker: str, chapter: str, texts: list[str]) -> Path:
    folder = root / split / speaker / chapter
    folder.mkdir(parents=True)
    lines = []
    for number, text in enumerate(texts):
        name = f"{speaker}-{chapter}-{number:04d}"
        noise = np.random.default_rng(number).normal(0, 0.1, 8000 * (number + 1))
        (folder / f"{name}.flac").write_bytes(encode_flac(noise.astype(np.float32)))
        lines.append(f"{name} {text}\n")
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    add_chapter(root, "dev-clean", "84", "121123", ["GO DO YOU HEAR", "BUT IN LESS THAN"])
    add_chapter(root, "dev-clean", "174", "50561", ["FORGOTTEN TOO"])
    add_chapter(root, "train-clean-360", "100", "121669", ["TOM THE PIPER'S SON"])
    return root


def prepare(capfd: pytest.CaptureFixture[str], root: Path, *more: str) -> tuple[int, Any, str]:
    code = main(["librispeech", "--root", str(root), *more])
    captured = capfd.readouterr()
    return code, json.loads(captured.out) if captured.out else None, captured.err


def test_every_split_found_gets_a_manifest(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, document, _ = prepare(capfd, corpus)
    assert code == ExitCode.OK
    manifests = corpus / "manifests"
    assert document["manifests"] == str(manifests)
    assert splits_in(manifests) == ["dev-clean", "train-clean-360"]
    first, second, third = read_manifest(manifests, "dev-clean")
    assert [first.id, second.id, third.id] == ["174-50561-0000", "84-121123-0000", "84-121123-0001"]
    assert third.fields["text"] == "BUT IN LESS THAN"
    assert third.fields["speaker"] == "84"
    assert third.duration_s == 1.0
    assert not Path(third.fields["path"]).is_absolute()
    assert len(read_audio(third)) == 16000
    assert document["splits"]["dev-clean"]["count"] == 3
    assert read_summary(manifests, "dev-clean").words == 10


def test_a_transcript_is_one_line_whatever_it_holds(
    corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = corpus / "dev-clean/174/50561/174-50561.trans.txt"
    file.write_text("174-50561-0000 FORGOTTEN\u2028TOO\u0085OFTEN\n")
    assert prepare(capfd, corpus)[0] == ExitCode.OK
    first = read_manifest(corpus / "manifests", "dev-clean")[0]
    assert first.fields["text"] == "FORGOTTEN TOO OFTEN"


def test_out_puts_the_manifests_elsewhere_and_they_still_find_the_audio(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "elsewhere" / "deep"
    assert prepare(capfd, corpus, "--out", str(out))[0] == ExitCode.OK
    assert len(read_audio(read_manifest(out, "train-clean-360")[0])) == 8000
    assert not (corpus / "manifests").exists()


def test_everything_that_is_wrong_is_listed_and_nothing_is_written(
    corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    chapter = corpus / "dev-clean" / "84" / "121123"
    (chapter / "84-121123-0000.flac").unlink()
    (chapter / "84-121123-0001.flac").write_bytes(b"no audio")
    (chapter / "84-121123-0007.flac").write_bytes(encode_flac(np.zeros(800, np.float32)))
    with (corpus / "train-clean-360/100/121669/100-121669.trans.txt").open("a") as file:
        file.write("100-121669-0000 SAID AGAIN\n100-121669-0001\n")
    (corpus / "test-clean").mkdir()
    code, document, err = prepare(capfd, corpus)
    assert code == ExitCode.FAILED
    problems = {kind: " ".join(places) for kind, places in document["problems"].items()}
    assert "84-121123-0000" in problems["transcripts without audio"]
    assert "84-121123-0001.flac" in problems["unreadable recordings"]
    assert "84-121123-0007" in problems["recordings without a transcript"]
    assert "100-121669-0000" in problems["ids with more than one transcript"]
    assert "line 3" in problems["empty transcripts"]
    assert "test-clean" in problems["splits without a recording"]
    assert document["counts"] == dict.fromkeys(problems, 1)
    for kind, places in problems.items():
        assert f"1 {kind}:\n  {places}" in err
    assert splits_in(corpus / "manifests") == []


def test_a_problem_leaves_the_manifests_of_before_alone(
    corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare(capfd, corpus)
    before = (corpus / "manifests" / "dev-clean.jsonl").read_bytes()
    (corpus / "train-clean-360/100/121669/100-121669-0000.flac").unlink()
    assert prepare(capfd, corpus)[0] == ExitCode.FAILED
    assert (corpus / "manifests" / "dev-clean.jsonl").read_bytes() == before


def test_hundreds_of_problems_are_counted_on_stderr_and_all_in_the_document(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "dev-clean" / "1" / "2"
    folder.mkdir(parents=True)
    (folder / "1-2.trans.txt").write_text("".join(f"1-2-{n:04d} HELLO\n" for n in range(300)))
    code, document, err = prepare(capfd, tmp_path)
    assert code == ExitCode.FAILED
    assert len(document["problems"]["transcripts without audio"]) == 300
    assert "300 transcripts without audio" in err
    assert "280 more" in err
    assert err.count("\n") < 40


def test_the_folder_above_is_answered_with_the_right_one(
    corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = prepare(capfd, corpus.parent)
    assert code == ExitCode.NOT_FOUND
    assert f"did you mean --root {corpus}?" in err


def test_a_missing_root_is_a_usage_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = prepare(capfd, tmp_path / "nowhere")
    assert code == ExitCode.USAGE
    assert "nowhere: no such folder" in err


def test_an_unwritable_out_is_told_before_the_work(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = prepare(capfd, corpus, "--out", str(tmp_path / "file" / "manifests"))
    assert code == ExitCode.USAGE
    assert "choose another folder with --out" in err
    assert "reading" not in err


def test_an_unfinished_synthesis_is_refused(
    corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (corpus / "synth.json").write_text('{"complete": false}')
    code, _, err = prepare(capfd, corpus)
    assert code == ExitCode.CONFLICT
    assert f"orchestra data synth librispeech --root {corpus}" in err
