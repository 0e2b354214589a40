"""orchestra predict and score on a run and on its export: real processes, the run's own code."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.cli.conftest import SHORT, Cli, make_cli, stop_all

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A workspace with one completed run, named `first`, and two recordings in rec/."""
    cli = make_cli(tmp_path_factory.mktemp("predict") / "workspace")
    cli.ok("run", *SHORT, "--name", "first", "--seed", "5")
    draw = np.random.default_rng(0)
    for name, rate in (("a.wav", 8000), ("below/b.flac", 44100)):
        path = cli.root / "rec" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * draw.standard_normal((rate, 2)), rate)
    yield cli
    stop_all(cli)


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_predict_and_score_give_what_eval_recorded(trained: Cli) -> None:
    shown = trained.json("show", "first")
    recorded = lines(Path(shown["evaluations"][0]["predictions"]).read_text())
    # The code that was submitted answers, not the workspace's.
    (trained.root / "tasks" / "example").mkdir()
    (trained.root / "tasks" / "example" / "config.py").write_text("broken")
    trained.ok("predict", "first", "--split", "test", "--out", "p.jsonl")
    predicted = lines((trained.root / "p.jsonl").read_text())
    for prediction, record in zip(predicted, recorded, strict=True):
        del prediction["path"]
        assert {**prediction, "label": record["label"]} == record
    refs = [{"id": record["id"], "label": record["label"]} for record in recorded]
    (trained.root / "refs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in refs))
    options = ("--refs", "refs.jsonl", "--predictions", "p.jsonl")
    header, row, count = trained.ok("score", "first", *options).splitlines()
    assert header.split() == ["METRIC", "VALUE", "BETTER"]
    accuracy = shown["evaluations"][0]["metrics"]["accuracy"]
    assert row.split() == ["accuracy", f"{accuracy:.4g}", "higher"]
    assert count == "61 utterances, matched by id"
    assert len(trained.json("show", "first")["evaluations"]) == 1, "nothing was recorded"


def test_a_pipe_is_answered_line_by_line_and_an_export_says_the_same(trained: Cli) -> None:
    talk = trained.start(
        "predict", "first", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
    )
    assert talk.stdin and talk.stdout
    answers = []
    for path in ("rec/a.wav", "rec/none.wav", "rec/below/b.flac"):
        talk.stdin.write(f"{path}\n")
        answers.append(json.loads(talk.stdout.readline()))  # before the next one is asked
    talk.communicate(timeout=60)
    assert talk.returncode == 1, "one of them had no prediction"
    first, none, second = answers
    assert none["error"] == "rec/none.wav: No such file or directory"
    trained.ok("export", "first", "models/first")
    words = ("predict", str(trained.root / "models/first"), str(trained.root / "rec"))
    done = trained(*words, cwd=Path("/"))  # outside of any workspace
    assert done.returncode == 0, done.stderr
    again = lines(done.stdout)
    assert [record["predicted"] for record in again] == [first["predicted"], second["predicted"]]
    assert [record["id"] for record in again] == ["a", "below/b"]


def test_refusals_name_the_reason(trained: Cli) -> None:
    for words, code, text in (
        (("predict", "first"), 2, "name what to predict"),
        (("predict", "first", "rec", "--split", "test"), 2, "one of them"),
        (("predict", "first", "-", "rec"), 2, "- stands for all paths"),
        (("predict", "first", "rec", "--on-error", "skip"), 2, "refuse or report"),
        (("predict", "first", "rec", "--checkpoint", "77"), 3, "steps with one: 10"),
        (("predict", "./rec", "rec"), 3, "rec is not the folder of an export"),
        (("predict", "first", "rec", "--gpu", "any"), 4, "no GPU can be leased"),
        (
            ("score", "first", "--refs", "none.csv", "--predictions", "p.jsonl"),
            2,
            "none.csv: No such",
        ),
        (("score", "first", "--refs", "refs.jsonl", "--by", "name"), 2, "it is id or path"),
    ):
        done = trained(*words)
        assert done.returncode == code, (words, done.stderr)
        assert text in done.stderr and "Traceback" not in done.stderr
