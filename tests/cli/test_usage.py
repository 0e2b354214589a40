"""Wrong commands: one clear message, the documented exit code, no traceback, nothing left."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.cli.main import build
from orchestra.cli.result import print_result
from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.schedule.watch import View
from orchestra.wire.builtin import builtin_folder
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState
from orchestra.workspace import find_workspace
from tests.cli.conftest import Cli, git, make_cli


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """For commands that change nothing."""
    return make_cli(tmp_path_factory.mktemp("usage") / "workspace")


def nothing_left(cli: Cli) -> bool:
    runs = cli.root / "runs"
    folders = [path for path in runs.iterdir() if path.is_dir() and path.name != ".snapshots"]
    return not folders and "refs/orchestra" not in git(cli.root, "for-each-ref")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("run", "exmple", "--cpu"), 3, "did you mean 'example'"),
        (("rnu",), 2, "Did you mean"),
        (("run",), 2, "Missing argument"),
        (("run", "example", "--cpu", "--gpus", "1"), 2, "contradicts"),
        (("run", "example", "--gpus", "0"), 2, "--gpus"),
        (("run", "example", "--gpus", "1", "--nproc", "2"), 2, "one rank per GPU"),
        (("run", "example", "--cpu", "--name", "a b"), 2, "--name"),
        (("run", "example", "--cpu", "--preset", "debgu"), 2, "debug"),
        (("show", "nope"), 3, "no run"),
        (("show", "@last"), 3, "no runs yet"),
        (("wait", "nope"), 3, "no run"),
        (("ls", "--state", "sleeping"), 2, "queued"),
        (("config", "explain", "optim.lrr", "example"), 2, "optim.lr"),
    ],
)
def test_wrong_commands(shared: Cli, words: tuple[str, ...], code: int, text: str) -> None:
    done = shared(*words)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_all_config_errors_at_once_and_nothing_is_left(cli: Cli) -> None:
    done = cli(
        "run", "example", "--cpu", "--set", "optim.lrr=1", "--set", "train.max_steps=true",
        "--set", "batch.secs=3",
    )  # fmt: skip
    assert done.returncode == 2
    for key in ("optim.lrr", "batch.secs"):
        assert key in done.stderr
    assert nothing_left(cli)


def test_a_missing_corpus_is_answered_with_its_command(cli: Cli) -> None:
    done = cli("run", "asr", "--cpu", "--set", "data.root=corpora/L S")
    assert done.returncode == 2
    folder = cli.root / "corpora/L S"
    assert f"no corpus folder {folder} (data.root); prepare it" in done.stderr
    assert f"`orchestra data prepare librispeech --root '{folder}'`" in done.stderr
    assert nothing_left(cli)


def test_outside_of_a_workspace(cli: Cli, tmp_path: Path) -> None:
    done = cli("ls", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "orchestra init DIR" in done.stderr


def test_the_workspace_is_found_from_below_and_by_option(cli: Cli, tmp_path: Path) -> None:
    below = cli.root / "tasks" / "deep"
    below.mkdir()
    for words, folder in (
        (("presets", "--json"), below),
        (("--workspace", str(cli.root), "presets", "--json"), tmp_path),
        (("presets", "--json", f"--workspace={cli.root}"), tmp_path),
    ):
        done = cli(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert '"debug"' in done.stdout


def test_an_unwritable_runs_folder_is_refused_up_front(cli: Cli) -> None:
    done = cli("run", "example", "--cpu", "--runs-dir", "/proc/runs")
    assert done.returncode == 1
    assert "/proc/runs" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_dry_run_prints_the_plan_and_writes_nothing(cli: Cli) -> None:
    text = cli.ok("run", "example", "--cpu", "--nproc", "2", "--dry-run", "--seed", "7")
    assert "cpu, 2 ranks" in text
    assert "sha256" in text
    assert not (cli.root / "runs").exists()


def test_read_commands_have_json(cli: Cli) -> None:
    aliases = {row["name"]: row["aliases"] for row in cli.json("tasks")}
    assert (aliases["asr"], aliases["er"]) == ([], ["emotion"])
    assert 'kind = "er"' in cli.ok("config", "show", "emotion")
    assert {row["name"] for row in cli.json("presets")} >= {"asr", "debug"}
    assert {row["name"] for row in cli.json("upstreams")} >= {"fbank", "wavlm"}
    assert cli.json("ls") == []
    assert not (cli.root / "runs").exists()
    assert cli.json("config", "show", "example")["task"]["kind"] == "example"
    assert cli.json("config", "explain", "optim.lr", "example")["value"] > 0
    assert cli.ok("config", "schema", "example").startswith("{")
    assert {row["name"] for row in cli.json("doctor")} >= {"python", "torch", "git", "registry"}


def test_a_task_whose_config_is_wrong_is_marked(cli: Cli) -> None:
    shutil.copytree(builtin_folder() / "tasks" / "example", cli.root / "tasks" / "mine")
    errors = {row["name"]: row["error"] for row in cli.json("tasks")}
    assert 'kind: Literal["mine"]' in errors.pop("mine")
    assert set(errors.values()) == {None}
    assert "can't be used" in cli.ok("tasks")


def test_config_show_is_toml_that_run_would_freeze(cli: Cli) -> None:
    shown = tomllib.loads(cli.ok("config", "show", "example", "--set", "optim.lr=0.5"))
    assert shown["optim"]["lr"] == 0.5


def test_init_makes_a_workspace_once_and_again(cli: Cli, tmp_path: Path) -> None:
    for _ in range(2):
        done = cli("init", "fresh", cwd=tmp_path)
        assert done.stdout.strip() == str(tmp_path / "fresh")
    assert cli("ls", cwd=tmp_path / "fresh").returncode == 0


def test_data_programs_pass_their_verdict_on(cli: Cli, tmp_path: Path) -> None:
    done = cli("data", "prepare", "librispeech", "--root", str(tmp_path / "nowhere"))
    assert done.returncode not in (0, 130)
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_hostile_text_reaches_a_file_as_it_is_and_a_terminal_never(shared: Cli) -> None:
    hostile = "\x1b]52;c;AAAA\x07 \x1b[2J [/b] loss 3"
    runs = RunsFolder(shared.root / "runs")
    with open_registry(runs) as registry:
        row = NewRun("abcd2345", "bad\x1b[31m", "example", "fbank", 0.0, 10, "00")
        registry.create_run(replace(row, git_branch="b\x1b]0;x\x07"))
        registry.transition(JobKey("abcd2345"), RunState, RunState.FAILED, reason=hostile)
    attempt = runs.run("abcd2345").job.attempt(1)
    attempt.logs.mkdir(parents=True)
    attempt.rank_log(0).write_text(hostile + "\n")
    assert hostile in shared.ok("logs", "abcd2345")
    for words in (("logs", "@last"), ("logs", "@last", "--rank", "0"), ("ls",), ("show", "@last")):
        seen = on_terminal(shared, *words)
        assert "loss 3" in seen
        colours = re.sub(r"\x1b\[\d*m", "", seen)
        assert "\x1b" not in colours and "\x07" not in colours


def test_a_hostile_reason_or_name_is_harmless_in_stop_and_result(
    cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "\x1b]52;c;AAAA\x07 loss 3"
    workspace = find_workspace(cli.root)
    key = JobKey("abcd2345")
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun(key.run_id, "run\x1b[2J", "example", "fbank", 0.0, 10, "00"))
        registry.create_evaluation(key.run_id, 1, "test\x1b[2J", "best\x1b[2J")
        registry.finish_evaluation(key.run_id, 1, {"wer\x1b[2J": 3.0}, 10)
        registry.transition(key, RunState, RunState.FAILED, reason=hostile)
        view = View(key, registry.get_run(key.run_id), None)
    print_result(workspace, view, since_s=0.0)
    monkeypatch.setattr("orchestra.schedule.stop.stop_run", lambda *words, **more: [key])
    app = build(["stop"])
    app(["--workspace", str(cli.root), "stop", "@last"], standalone_mode=False)
    seen = capsys.readouterr()
    assert "loss 3" in seen.out and "loss 3" in seen.err and "wer" in seen.out
    assert "\x1b" not in seen.out + seen.err and "\x07" not in seen.out + seen.err


@pytest.mark.parametrize(
    "words",
    [
        ("rnu\x1b[2J\u202e",),
        ("ls", "--lim\x1b]0;x\x07"),
        ("logs", "@last", "--tail", "1\u2028\x9b"),
    ],
)
def test_a_wrong_command_line_is_echoed_harmlessly(shared: Cli, words: tuple[str, ...]) -> None:
    done = shared(*words)
    assert done.returncode == 2 and "Error: " in done.stderr and "Usage: " in done.stderr
    assert not set(done.stderr) & set("\x1b\x07\x9b\u202e\u2028")


def on_terminal(cli: Cli, *words: str) -> str:
    """What a command writes to a pseudo-terminal."""
    ours, its = pty.openpty()
    process = cli.start(*words, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # the last writer has gone
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return seen.decode()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a tiny disk")
def test_a_full_disk_is_refused_up_front(cli: Cli, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        done = cli("run", "example", "--cpu", "--runs-dir", str(disk))
        assert done.returncode == 2
        assert "MiB are free" in done.stderr and "--runs-dir" in done.stderr
        assert cli.json("--runs-dir", str(disk), "ls") == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_config_key_by_key_with_origins(cli: Cli) -> None:
    rows = cli.json("config", "show", "example", "--origins", "--set", "seed=5")
    found = {row["key"]: (row["value"], row["origin"]) for row in rows}
    assert found["seed"][0] == 5 and "--set" in found["seed"][1]
    assert found["train.precision"][1] == "default"
    lines = cli.ok("config", "show", "example", "--origins").splitlines()
    assert lines[0].split() == ["KEY", "VALUE", "FROM"]
    assert any(line.split()[0] == "train.precision" for line in lines)


def test_the_corpora_of_a_workspaces_task_are_found(cli: Cli) -> None:
    folder = cli.root / "tasks" / "whistling"
    folder.mkdir(parents=True)
    (folder / "config.py").write_text("")
    (folder / "prepare.py").write_text(
        'CORPUS = "whistles"\nHELP = "a file per whistle"\ndef prepare(root, out): ...\n'
    )
    found = {corpus["name"]: corpus for corpus in cli.json("data", "corpora")["corpora"]}
    assert found["whistles"]["task"] == "whistling"
    assert found["speech_commands"]["synth"] is True
    done = cli("data", "prepare", "whistels", "--root", str(cli.root))
    assert (done.returncode, "did you mean 'whistles'?" in done.stderr) == (3, True)
