"""`orchestra ls` with a filter, an order, columns; as a process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunsFolder
from tests.cli.conftest import Cli, make_cli

KEYS = {
    "id", "name", "state", "reason", "task", "upstream", "created_at", "started_at", "ended_at",
    "step", "max_steps", "loss", "audio_s_per_s", "eta_s", "metric", "score", "best_score",
    "attempt", "host", "gpus", "devices", "commit", "branch", "dirty", "tags", "note",
    "parent", "member", "doing", "says", "silent_s",
}  # fmt: skip


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """With three runs; the first has the lowest learning rate."""
    made = make_cli(tmp_path_factory.mktemp("ls") / "workspace")
    with open_registry(RunsFolder(made.root / "runs")) as registry:
        for number, name in enumerate(("one", "two", "three"), 1):
            run = NewRun(f"r{number}", name, "asr", "fbank", 0.0, 10, "00", git_branch="main")
            config = f'{{"optim":{{"lr":{number}e-4}}}}'
            registry.create_run(replace(run, config=config, tags=("a", "b")[: number % 2]))
        registry.progress("r2", 5, {"best_score": 8.5, "metric": "wer"})
    return made


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ((), ["r3", "r2", "r1"]),
        (("cfg.optim.lr>1e-4",), ["r3", "r2"]),
        (("cfg.optim.lr", ">", "1e-4", "not", "two"), ["r3"]),
        (("tag:a", "--limit", "1"), ["r3"]),
        (("--sort", "cfg.optim.lr"), ["r1", "r2", "r3"]),
        (("--sort", "-name"), ["r2", "r3", "r1"]),
        (("--state", "queued", "one"), ["r1"]),
        (("--state", "failed", "one"), []),
    ],
)
def test_filter_and_order(cli: Cli, words: tuple[str, ...], ids: list[str]) -> None:
    found = cli.json("ls", *words)
    assert [row["id"] for row in found] == ids
    assert all(set(row) == KEYS for row in found)


def test_columns(cli: Cli) -> None:
    words = ("ls", "--columns", "name,tags,best,cfg.optim.lr,eval.test.wer", "--sort", "name")
    lines = [line.split() for line in cli.ok(*words).splitlines()]
    assert lines == [
        ["NAME", "TAGS", "BEST", "CFG.OPTIM.LR", "EVAL.TEST.WER"],
        ["one", "a", "-", "0.0001", "-"],
        ["three", "a", "-", "0.0003", "-"],
        ["two", "-", "wer", "8.5", "0.0002", "-"],
    ]
    (row,) = cli.json("ls", "one", "--columns", "cfg.optim.lr")
    assert row["values"] == {"cfg.optim.lr": 1e-4}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--columns", "id,lr"), "no column 'lr': columns are id, name"),
        (("--columns", "cfg."), "no column 'cfg.'"),
        (("--columns", ","), "names none"),
        (("stat:failed",), "column 1 of the filter: no field 'stat': did you mean state?"),
        (("state:stalled",), "state:running has those runs"),
        (("a", "(b"), "column 3 of the filter: there is no )"),
        (("--sort", "lsos"), "did you mean loss?"),
    ],
)
def test_what_is_wrong_is_told(cli: Cli, words: tuple[str, ...], told: str) -> None:
    done = cli("ls", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr and "Traceback" not in done.stderr


def test_nothing_found_is_told(cli: Cli) -> None:
    assert cli("ls", "nowhere").stderr == "no such runs\n"


def test_where_there_are_no_runs_the_filter_is_read_all_the_same(cli: Cli) -> None:
    empty = ("--runs-dir", "elsewhere")
    assert cli.json("ls", "asr", *empty) == []
    assert "no runs yet" in cli("ls", *empty).stderr
    assert cli("ls", "(", *empty).returncode == 2
