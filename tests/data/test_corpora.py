"""Corpora of tasks: found in the workspace, made, prepared, refused with every problem named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.data import corpora, prepare, synth
from orchestra.data.problems import read_headers
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import read_manifest, read_summary

PREPARE = """
from pathlib import Path
from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers

CORPUS = "whistles"
HELP = "a file per whistle"

def prepare(root: Path, out: Path) -> Prepared:
    headers, problems = read_headers(sorted(root.glob("*.wav")))
    lines = [
        {"id": path.stem[:4], "path": str(path), "offset_s": 0.0, "duration_s": header.duration_s}
        for path, header in headers.items()
    ]
    return Prepared({"train": lines}, problems)
"""
TINY = """
import numpy as np
import soundfile

def make(root, seed):
    for number in range(3):
        soundfile.write(root / f"w-{number:02d}.wav", np.full(800 * seed, 0.1), 8000)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A workspace with the task `whistling`."""
    folder = tmp_path / "code" / "tasks" / "whistling"
    folder.mkdir(parents=True)
    (folder / "config.py").write_text("")
    (folder / "prepare.py").write_text(PREPARE)
    (folder / "tiny.py").write_text(TINY)
    return tmp_path / "code"


class Program:
    """A program of orchestra.data, called with the workspace's code."""

    def __init__(self, code: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._code, self._capfd = code, capfd

    def __call__(self, main: Any, *words: str) -> tuple[int, Any, str]:
        returned = main([*words, "--code", str(self._code)])
        captured = self._capfd.readouterr()
        return returned, json.loads(captured.out) if captured.out else None, captured.err


@pytest.fixture
def call(code: Path, capfd: pytest.CaptureFixture[str]) -> Program:
    return Program(code, capfd)


def test_a_workspaces_corpus_is_made_and_prepared(call: Program, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    returned, document, _ = call(synth.main, "whistles", "--root", str(root), "--seed", "2")
    assert returned == ExitCode.OK
    assert document["splits"]["train"] == {"utterances": 3, "seconds": 0.6, "longest_s": 0.2}
    returned, document, err = call(prepare.main, "whistles", "--root", str(root))
    assert returned == ExitCode.OK
    assert "train: 3 utterances" in err
    said = "3 of 3 recordings are not at 16000 Hz, so they are resampled when read"
    assert f"{said}: {root / 'w-00.wav'} (8000 Hz) is the first" in err
    assert [u.id for u in read_manifest(root / "manifests", "train")] == ["w-00", "w-01", "w-02"]
    made_by = read_summary(root / "manifests", "train").prepared_by
    assert made_by == f"orchestra data prepare whistles --root {root} --out {root / 'manifests'}"


def test_rates_are_told_only_where_they_differ(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path in paths:
        soundfile.write(path, np.zeros(160), 16_000)
    assert not read_headers(paths)[1] and not capfd.readouterr().err
    soundfile.write(paths[1], np.zeros(441), 44_100)
    read_headers(paths)
    told = f"1 of 2 recordings are not at 16000 Hz, so they are resampled when read: {paths[1]}"
    assert told in capfd.readouterr().err


def test_a_made_corpus_is_left_alone_and_another_seed_refused(
    call: Program, tmp_path: Path
) -> None:
    words = ("whistles", "--root", str(tmp_path / "corpus"))
    call(synth.main, *words)
    assert "already complete" in call(synth.main, *words)[2]
    returned, _, err = call(synth.main, *words, "--seed", "7")
    assert returned == ExitCode.CONFLICT
    assert "another seed" in err


def test_an_interrupted_synthesis_is_not_prepared_and_can_be_ended(
    call: Program, tmp_path: Path
) -> None:
    words = ("whistles", "--root", str(tmp_path / "corpus"))
    call(synth.main, *words)
    marker = tmp_path / "corpus" / synth.MARKER
    marker.write_text(marker.read_text().replace("true", "false"))
    (tmp_path / "corpus" / "w-01.wav").unlink()
    returned, _, err = call(prepare.main, *words)
    assert returned == ExitCode.CONFLICT
    assert "orchestra data synth whistles" in err
    assert call(synth.main, *words)[1]["splits"]["train"]["utterances"] == 3


def test_problems_are_named_and_nothing_is_written(call: Program, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    call(synth.main, "whistles", "--root", str(root))
    (root / "w-01.wav").write_bytes(b"no audio")
    (root / "w-02b.wav").write_bytes((root / "w-02.wav").read_bytes())
    returned, document, err = call(prepare.main, "whistles", "--root", str(root))
    assert returned == ExitCode.FAILED
    assert document["counts"] == {"unreadable recordings": 1, "ids that stand more than once": 1}
    assert "w-01.wav" in err and "w-02 (split 'train')" in err
    assert not list((root / "manifests").iterdir())


def test_a_split_without_an_utterance_is_a_problem(call: Program, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    returned, document, _ = call(prepare.main, "whistles", "--root", str(tmp_path / "empty"))
    assert returned == ExitCode.FAILED
    assert document["problems"] == {"splits without an utterance": ["train"]}


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("whistels", "did you mean 'whistles'?"),
        ("whistling", "did you mean 'whistles'?"),  # the task's name
        ("librispech", "did you mean 'librispeech'?"),
        ("zzz", "there are digits, "),
    ],
)
def test_an_unknown_corpus_gets_the_nearest_name(
    call: Program, tmp_path: Path, asked: str, hint: str
) -> None:
    returned, _, err = call(prepare.main, asked, "--root", str(tmp_path))
    assert returned == ExitCode.NOT_FOUND
    assert hint in err


def test_what_can_only_be_read_is_not_offered_for_making(call: Program, tmp_path: Path) -> None:
    returned, _, err = call(synth.main, "digits", "--root", str(tmp_path / "new"))
    assert returned == ExitCode.NOT_FOUND
    assert "'digits'" not in err.replace("no corpus 'digits'", "")


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("prepare.py", "import nowhere_to_be_found", "ModuleNotFoundError"),
        ("prepare.py", PREPARE.replace("HELP", "HLP"), "no text HELP"),
        ("prepare.py", PREPARE.replace("def prepare", "def prepair"), "no function prepare"),
        ("tiny.py", TINY.replace("make", "mk"), "no function make"),
        ("prepare_more.py", PREPARE, "task 'whistling' already has corpus 'whistles'"),
    ],
)
def test_a_broken_file_is_named_and_hides_no_other_corpus(
    code: Path, call: Program, file: str, text: str, sentence: str
) -> None:
    (code / "tasks" / "whistling" / file).write_text(text)
    returned, document, err = call(corpora.main)
    assert returned == ExitCode.OK
    assert file in err and sentence in err
    assert {"digits", "librispeech"} <= {corpus["name"] for corpus in document["corpora"]}


def test_a_task_may_know_more_than_one_corpus(code: Path, call: Program) -> None:
    more = PREPARE.replace('"whistles"', '"songs"')
    (code / "tasks" / "whistling" / "prepare_songs.py").write_text(more)
    listed = {corpus["name"]: corpus for corpus in call(corpora.main)[1]["corpora"]}
    assert listed["whistles"] == {
        "name": "whistles",
        "task": "whistling",
        "synth": True,
        "help": "a file per whistle",
    }
    assert listed["songs"]["task"] == "whistling"
    assert not listed["songs"]["synth"]
