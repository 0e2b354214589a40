"""Manifests of one's own data: from JSON Lines, tables and Kaldi folders; all problems at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.data.audio import read_audio
from orchestra.data.import_corpus import main
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import read_manifest, read_summary, splits_in

RATE = 16000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """a.wav (1 s), b.wav (2 s) and sub/c.wav (3 s)."""
    (tmp_path / "sub").mkdir()
    for seconds, name in enumerate(("a", "b", "sub/c"), 1):
        samples = np.random.default_rng(seconds).normal(0, 0.1, RATE * seconds)
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    return tmp_path


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.document: Any = json.loads(out) if out else None
        self.err = err

    def problems(self) -> dict[str, list[str]]:
        """By the first words of their kind."""
        assert self.code == ExitCode.FAILED, self.err
        return {kind.split(" (")[0]: where for kind, where in self.document["problems"].items()}


@pytest.fixture
def run(root: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*sources: str, out: str = "m", force: bool = False, **options: Any) -> Result:
        words = [str(root / source) for source in sources] + ["--force"] * force
        for name, value in options.items():
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}={each}" for each in values]
        code = main([*words, f"--out={root / out}"])
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run


def lines(root: Path, split: str) -> list[dict[str, Any]]:
    return [utterance.fields for utterance in read_manifest(root / "m", split)]


def write_jsonl(path: Path, *rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_json_lines_become_manifests_that_find_the_audio(root: Path, run: Any) -> None:
    write_jsonl(
        root / "train.jsonl",
        {"key": "x1", "file": "a.wav", "said": "HELLO  YOU", "class": 7, "slots": {"city": "Rome"}},
        {"key": "x2", "file": str(root / "b.wav"), "said": "BYE", "class": "8", "slots": {}},
    )
    done = run(
        "train.jsonl", id="key", path="file", text="said", label="class", column="frames=slots"
    )
    assert done.code == ExitCode.OK
    first, second = lines(root, "train")
    assert first == {
        "id": "x1",
        "path": "../a.wav",
        "offset_s": 0.0,
        "duration_s": 1.0,
        "text": "HELLO YOU",
        "label": "7",
        "frames": {"city": "Rome"},
    }
    assert second["path"] == str(root / "b.wav")
    assert [len(read_audio(u)) for u in read_manifest(root / "m", "train")] == [RATE, 2 * RATE]
    assert done.document["splits"]["train"]["count"] == 2
    prepared_by = read_summary(root / "m", "train").prepared_by
    assert prepared_by.startswith(f"orchestra data import {root}/train.jsonl --id=key")


def test_columns_of_the_usual_names_need_no_option_and_others_are_told(
    root: Path, run: Any
) -> None:
    write_jsonl(root / "dev.jsonl", {"id": "u", "path": "a.wav", "text": "HI", "age": 3, "mood": 1})
    done = run("dev.jsonl")
    assert set(lines(root, "dev")[0]) == {"id", "path", "offset_s", "duration_s", "text"}
    assert "not imported: age, mood; take one along with --column NEW=COL" in done.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'path,text,speaker\na.wav,"HI, ""YOU""",s1\nb.wav,"TWO\nLINES",s2\n'),
        ("t.csv", '\ufeffpath;text;speaker\r\na.wav;"HI, ""YOU""";s1\r\n\r\nb.wav;TWO LINES;s2\r'),
        ("t.tsv", 'path\ttext\tspeaker\na.wav\tHI, "YOU"\ts1\nb.wav\tTWO LINES\ts2'),
    ],
)
def test_tables_with_quotes_line_ends_and_a_byte_order_mark(
    root: Path, run: Any, name: str, text: str
) -> None:
    (root / name).write_bytes(text.encode())
    assert run(name).code == ExitCode.OK
    found = [(line["id"], line["text"], line["speaker"]) for line in lines(root, "t")]
    assert found == [("a", 'HI, "YOU"', "s1"), ("b", "TWO LINES", "s2")]


def test_an_unbalanced_quotation_mark_ends_no_table_of_tabs_but_one_of_commas(
    root: Path, run: Any
) -> None:
    (root / "t.tsv").write_text('path\ttext\na.wav\t"TIS\nb.wav\tSO\n')
    assert run("t.tsv").code == ExitCode.OK
    assert [line["text"] for line in lines(root, "t")] == ['"TIS', "SO"]
    (root / "u.csv").write_text('path,text\na.wav,"TIS\nb.wav,SO\n')
    done = run("u.csv")
    assert done.code == ExitCode.FAILED
    assert "u.csv, the row that begins in line 2: unexpected end of data" in done.err


def test_splits_stand_in_a_column_or_are_given_for_each_source(root: Path, run: Any) -> None:
    (root / "all.csv").write_text("path,set\na.wav,train\nb.wav,dev\nsub/c.wav,train\n")
    assert run("all.csv", split_column="set").code == ExitCode.OK
    assert [line["id"] for line in lines(root, "train")] == ["a", "sub-c"]
    assert [line["id"] for line in lines(root, "dev")] == ["b"]
    for name, recording in (("one", "a"), ("two", "b")):
        (root / f"{name}.csv").write_text(f"path\n{recording}.wav\n")
    assert run("one.csv", "two.csv", split=["x", "y"], out="n").code == ExitCode.OK
    assert splits_in(root / "n") == ["x", "y"]


def test_parts_of_recordings_have_times_and_ids_of_their_own(root: Path, run: Any) -> None:
    (root / "t.csv").write_text("path,from,to\nsub/c.wav,0.5,1.25\nsub/c.wav,2,\nb.wav,1,2.015\n")
    assert run("t.csv", start="from", end="to").code == ExitCode.OK
    found = [(line["id"], line["offset_s"], line["duration_s"]) for line in lines(root, "t")]
    assert found == [
        ("sub-c-0000500", 0.5, 0.75),
        ("sub-c-0002000", 2.0, 1.0),
        ("b-0001000", 1.0, 1.0),  # its time was rounded
    ]


def test_a_duration_counts_where_it_is_named(root: Path, run: Any) -> None:
    rows = [{"audio_filepath": "sub/c.wav", "offset": n, "duration": 0.5} for n in (0, 2)]
    write_jsonl(root / "t.jsonl", *rows)
    assert run("t.jsonl", path="audio_filepath", start="offset", duration="duration").code == 0
    assert [(line["offset_s"], line["duration_s"]) for line in lines(root, "t")] == [
        (0.0, 0.5),
        (2.0, 0.5),
    ]
    assert run("t.jsonl", path="audio_filepath", start="offset", force=True).code == 0
    assert [line["duration_s"] for line in lines(root, "t")] == [3.0, 1.0]


def test_relative_paths_begin_at_the_audio_root(root: Path, run: Any) -> None:
    (root / "lists").mkdir()
    (root / "lists" / "t.csv").write_text("path\nc.wav\n")
    assert run("lists/t.csv").code == ExitCode.FAILED
    assert run("lists/t.csv", audio_root=root / "sub").code == ExitCode.OK
    assert lines(root, "t")[0]["path"] == "../sub/c.wav"


def test_all_that_is_wrong_is_named_with_its_line_and_nothing_is_written(
    root: Path, run: Any
) -> None:
    (root / "broken.wav").write_bytes(b"no audio")
    (root / "t.csv").write_text(
        "id,path,text,start,end\n"
        "u1,a.wav,HI,,\n"
        "u2,gone.wav,HI,,\n"
        "u3,broken.wav,HI,,\n"
        "u1,b.wav,HI,,\n"
        "u5,,HI,,\n"
        ",b.wav,HI,,\n"
        "u7,b.wav, ,,\n"
        "u8,b.wav,HI,x,\n"
        "u9,b.wav,HI,1,0.5\n"
        "u10,b.wav,HI,1,2.5\n"
        "u11,b.wav\n"
    )
    (root / "m").mkdir()
    (root / "m" / "t.jsonl").write_text("of before")
    problems = run("t.csv").problems()
    at = f"{root}/t.csv, line"
    assert problems == {
        "rows with another number of cells than the header": [f"{at} 12: 2, not 5"],
        "rows without a path": [f"{at} 6"],
        "times that are no seconds": [f"{at} 9: 'x'"],
        "parts that end before they begin": [f"{at} 10: 1.0-0.5"],
        "missing recordings": [f"{root}/gone.wav ({at} 3)"],
        "unreadable recordings": [
            f"{root}/broken.wav: corrupt or not an audio file (Format not recognised)"
        ],
        "rows without an id": [f"{at} 7"],
        "empty cells": [f"text ({at} 8)"],
        "parts that lie behind the end of their recording": [
            f"{at} 11: 1-2.5 s of {root}/b.wav, which lasts 2.00 s"
        ],
        "ids that stand more than once": [f"'u1' ({at} 2 and {at} 5)"],
    }
    assert (root / "m" / "t.jsonl").read_text() == "of before"


def test_problems_of_json_lines(root: Path, run: Any) -> None:
    (root / "t.jsonl").write_text(
        '{"path": "a.wav", "text": "HI"}\n\n{broken\n[1]\n{"path": 3}\n'
        '{"path": "b.wav", "text": ["HI"]}\n{"path": "b.wav", "text": NaN}\n'
    )
    problems = run("t.jsonl").problems()
    at = f"{root}/t.jsonl, line"
    assert [where.split(": ")[0] for where in problems["lines that are no JSON"]] == [
        f"{at} 3",
        f"{at} 7",
    ]
    assert problems["lines that are no JSON objects"] == [f"{at} 4"]
    assert problems["rows without a path"] == [f"{at} 5"]
    assert problems["cells that are no text"] == [f"text ({at} 6)"]


def test_a_column_without_anything_in_it_is_no_field(root: Path, run: Any) -> None:
    (root / "t.csv").write_text("path,text\na.wav,\nb.wav,\n")
    assert run("t.csv").code == ExitCode.OK
    assert "text" not in lines(root, "t")[0]


def test_one_id_in_two_sources_of_a_split_is_named_in_both(root: Path, run: Any) -> None:
    for name, recording in (("one", "a"), ("two", "b")):
        (root / f"{name}.csv").write_text(f"id,path,set\nu,{recording}.wav,dev\n")
    problems = run("one.csv", "two.csv", split_column="set").problems()
    both = f"'u' ({root}/one.csv, line 2 and {root}/two.csv, line 2)"
    assert problems == {"ids that stand more than once": [both]}


@pytest.mark.parametrize("split", ["a/b", "a+b", ".hidden"])
def test_splits_that_can_not_be_files(root: Path, run: Any, split: str) -> None:
    (root / "t.csv").write_text("path\na.wav\n")
    problems = run("t.csv", split=split).problems()
    assert problems == {"splits that can't be the name of a file": [repr(split)]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "nix"}, "--text nix: {root}/t.csv has the columns file, set"),
        ({}, "--path COL: which column of {root}/t.csv is it? It has file, set"),
        ({"column": "set"}, "--column set: write NEW=COL"),
        ({"column": "label=set"}, "label has a meaning of its own; say --label set"),
        ({"column": "duration_s=set"}, "--column duration_s=set: duration_s has a meaning"),
        ({"split": "x", "split_column": "set"}, "--split and --split-column: give one"),
        ({"split": ["x", "y"]}, "1 sources, but 2 --split"),
        ({"path": "file", "end": "set", "duration": "set"}, "--end and --duration: give one"),
        ({"audio_root": "/nowhere"}, "--audio-root /nowhere: no such folder"),
    ],
)
def test_options_that_can_not_be_meant(
    root: Path, run: Any, options: dict[str, Any], message: str
) -> None:
    (root / "t.csv").write_text("file,set\na.wav,train\n")
    done = run("t.csv", **options)
    assert done.code == ExitCode.USAGE
    assert message.format(root=root) in done.err


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.csv", b"", "t.csv is empty"),
        ("t.csv", b"path,path\n", "line 1: 2 columns are called 'path'"),
        ("t.csv", b"path,\n", "line 1: a column has no name"),
        ("t.csv", "path\nå.wav\n".encode("latin1"), "t.csv, line 2: not UTF-8 (byte 0xe5)"),
        ("t.csv", "path\n".encode("utf-16"), "t.csv is UTF-16; save it as UTF-8"),
        ("t.xlsx", b"", "t.xlsx: what is it? Its name must end in .jsonl, .ndjson, .csv, .tsv"),
        ("none.csv", None, "none.csv: no such file"),
    ],
)
def test_files_that_can_not_be_read(
    root: Path, run: Any, name: str, data: bytes | None, message: str
) -> None:
    if data is not None:
        (root / name).write_bytes(data)
    done = run(name)
    assert done.code != ExitCode.OK and done.document is None
    assert message in done.err


def test_a_source_without_rows_is_a_problem(root: Path, run: Any) -> None:
    (root / "t.csv").write_text("path\n")
    assert run("t.csv").problems() == {"sources without an utterance": [f"{root}/t.csv"]}


class TestKaldi:
    """A data folder whose paths begin two folders above it."""

    @pytest.fixture
    def folder(self, root: Path) -> Path:
        folder = root / "data" / "train"
        folder.mkdir(parents=True)
        (folder / "wav.scp").write_text("rec1 a.wav\nrec2   sub/c.wav\n")
        (folder / "text").write_text("rec1 HELLO  YOU\nrec2 BYE\n")
        (folder / "utt2spk").write_text("rec1 ann\nrec2 bob\n")
        (folder / "spk2gender").write_text("ann f\nbob m\n")
        return folder

    def test_whole_recordings(self, root: Path, folder: Path, run: Any) -> None:
        assert run("data/train", audio_root=root).code == ExitCode.OK
        first, second = lines(root, "train")
        assert (first["id"], first["text"], first["speaker"]) == ("rec1", "HELLO YOU", "ann")
        assert (second["path"], second["gender"], second["duration_s"]) == ("../sub/c.wav", "m", 3)

    def test_segments(self, root: Path, folder: Path, run: Any) -> None:
        (folder / "segments").write_text("u1 rec2 0.5 1.5\nu2 rec2 2 -1\n")
        (folder / "text").write_text("u1 HELLO\nu2 BYE\n")
        (folder / "utt2spk").write_text("u1 ann\nu2 ann\n")
        assert run("data/train", audio_root=root).code == ExitCode.OK
        found = lines(root, "train")
        assert [line["id"] for line in found] == ["u1", "u2"]
        assert [line["offset_s"] for line in found] == [0.5, 2.0]
        assert [line["duration_s"] for line in found] == [1.0, 1.0]

    def test_commands_and_archives_are_refused_with_a_remedy(
        self, root: Path, folder: Path, run: Any
    ) -> None:
        (folder / "wav.scp").write_text("rec1 sph2pipe -f wav a.sph |\nrec2 raw.ark:1234\n")
        done = run("data/train", audio_root=root)
        assert "are a command (run it into a .wav file, and name that file):\n  rec1" in done.err
        assert "in an archive (write .wav files with Kaldi's wav-copy; name those)" in done.err
        assert done.problems()["recordings that are a command"] == [
            f"rec1 ({folder}/wav.scp, line 1)"
        ]
        assert "missing recordings" not in done.problems(), "each is told once"
        assert not (root / "m").exists()

    def test_speakers_that_only_their_own_lists_have_do_not_go_missing(
        self, root: Path, folder: Path, run: Any
    ) -> None:
        (folder / "utt2spk").rename(folder / "spk2utt")
        done = run("data/train", audio_root=root)
        assert done.problems()["files of no use without utt2spk"] == [
            f"{folder}/spk2utt",
            f"{folder}/spk2gender",
        ]
        assert "spk2utt_to_utt2spk.pl" in done.err

    def test_files_that_do_not_fit_each_other(self, root: Path, folder: Path, run: Any) -> None:
        (folder / "wav.scp").write_text("rec1 a.wav\nrec2 b.wav\nrec1 b.wav\nrec3 b.wav\n")
        (folder / "text").write_text("rec1 HELLO\nrec9 BYE\nrec3\n")
        (folder / "spk2gender").write_text("bob m\n")
        problems = run("data/train", audio_root=root).problems()
        assert problems == {
            "keys that stand more than once": [f"'rec1' ({folder}/wav.scp, lines 1 and 3)"],
            "utterances that text has not": [f"rec2 ({folder}/wav.scp, line 2)"],
            "lines of text without audio": [f"rec9 ({folder}/text, line 2)"],
            "utterances that utt2spk has not": [f"rec3 ({folder}/wav.scp, line 4)"],
            "speakers that spk2gender has not": [f"ann ({folder}/wav.scp, line 1)"],
            "lines of utt2spk without audio": [f"rec2 ({folder}/utt2spk, line 2)"],
        }

    def test_segments_that_are_none(self, root: Path, folder: Path, run: Any) -> None:
        (folder / "segments").write_text("u1 rec1 0\nu2 rec8 0 1\nu3 rec1 a b\nu4 rec1 0 1 A\n")
        for name in ("text", "utt2spk"):
            (folder / name).unlink()
        problems = run("data/train", audio_root=root).problems()
        at = f"{folder}/segments, line"
        none = problems[
            "segments that are not <utterance> <recording> <start_s> <end_s>; "
            "split channels into files first"
        ]
        assert none == [f"u1 ({at} 1)", f"u4 ({at} 4)"]
        assert problems["segments of a recording that wav.scp has not"] == [f"u2 ({at} 2): rec8"]
        assert problems["times that are no seconds"] == [f"{at} 3: 'a'"]

    def test_another_folder_is_none(self, root: Path, run: Any) -> None:
        done = run("sub")
        assert done.code == ExitCode.NOT_FOUND
        assert "sub is no Kaldi data folder: it has no wav.scp" in done.err


def test_a_manifest_that_another_command_made_is_not_replaced_unasked(root: Path, run: Any) -> None:
    (root / "new").mkdir()
    rows = [{"path": f"{name}.wav", "text": name.upper()} for name in "ab"]
    write_jsonl(root / "train.jsonl", *rows)
    write_jsonl(root / "new" / "train.jsonl", {"path": "../sub/c.wav", "text": "C"})
    assert run("train.jsonl").code == ExitCode.OK
    before = lines(root, "train")
    refused = run("new/train.jsonl")
    assert (refused.code, refused.document) == (ExitCode.CONFLICT, None)
    assert f"m/train.jsonl is there, made by `orchestra data import {root}/train" in refused.err
    assert "--force" in refused.err and lines(root, "train") == before
    assert run("train.jsonl", split="train").code == ExitCode.OK, "it says the same"
    write_jsonl(root / "train.jsonl", {"path": "a.wav", "text": "A"})
    assert run("train.jsonl", split="train").code == ExitCode.OK, "the same command"
    (one,) = lines(root, "train")
    assert run("new/train.jsonl", force=True).code == ExitCode.OK
    assert [one["text"], *(row["text"] for row in lines(root, "train"))] == ["A", "C"]
    assert run("new/train.jsonl").code == ExitCode.OK, "--force is no other command"
    (root / "m" / "train.jsonl").write_text("")
    by_hand = run("new/train.jsonl")
    assert by_hand.code == ExitCode.CONFLICT and "changed by hand" in by_hand.err


def test_a_column_of_ones_own_may_have_gaps_which_are_told(root: Path, run: Any) -> None:
    (root / "t.csv").write_text("path,text,accents\na.wav,A,scots\nb.wav,B,\n")
    done = run("t.csv", column="accent=accents")
    assert done.code == ExitCode.OK
    assert "t.csv: 1 of 2 rows have nothing in accents; they get no accent" in done.err
    assert [row.get("accent") for row in lines(root, "t")] == ["scots", None]


def test_a_source_of_which_no_line_can_be_used_is_told_by_its_lines(root: Path, run: Any) -> None:
    (root / "t.jsonl").write_text('[{"path": "a.wav"}]')
    assert run("t.jsonl").problems() == {
        "lines that are no JSON objects": [f"{root}/t.jsonl, line 1"]
    }
