"""One short real run, looked at, evaluated, resumed and removed by every verb; and its end by
Ctrl-C. Real processes throughout."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import select
import shlex
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.registry.rows import NewRun, RunRow
from orchestra.registry.store import open_registry
from orchestra.wire.features import default_folder, entry_path
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState
from tests.cli.conftest import SHORT, Cli, git, make_cli, stop_all

pytestmark = pytest.mark.slow
#: Long enough to be caught at work; each step waits a little.
LONG = (*SHORT, "--set", "train.max_steps=5000", "--set", "task.delay_s=0.05")
SHOWN = {
    "id", "name", "state", "reason", "task", "upstream", "progress", "supervisor", "attempts",
    "checkpoints", "evaluations", "events", "git",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A workspace with one completed run, attached, named `first`."""
    cli = make_cli(tmp_path_factory.mktemp("run") / "workspace")
    done = cli("run", *SHORT, "--name", "first", "--seed", "5")
    assert done.returncode == 0, done.stderr
    (cli.root / "attached.txt").write_text(done.stdout)
    (cli.root / "attached.err").write_text(done.stderr)
    yield cli
    stop_all(cli)


def until(condition: Callable[[], Any], *, seconds: float = 60.0, every_s: float = 0.05) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(every_s)
    return value


def at_work(cli: Cli) -> dict[str, Any]:
    """The document of the only run, once it has made a step."""
    row = until(lambda: _working(cli.root / "runs"))
    return dict(cli.json("show", row.id))


def _working(runs: Path) -> RunRow | None:
    """Asked of the registry: a command in a loop would take the cores from the run."""
    if not _rows(runs):
        return None
    with open_registry(RunsFolder(runs)) as registry:
        (row,) = registry.list_runs()
    return row if row.state is RunState.RUNNING and row.step > 0 else None


def no_process_of(run_id: str) -> bool:
    """Nothing that carries the run's tag is alive."""
    mark = f"ORCHESTRA_RUN={run_id}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                return False
        except OSError:
            continue
    return True


def sha256_of_config(job: Path) -> str:
    return hashlib.sha256((job / "config.toml").read_bytes()).hexdigest()


def test_attached_run_prints_metrics_on_stdout_and_talk_on_stderr(finished: Cli) -> None:
    out = (finished.root / "attached.txt").read_text()
    err = (finished.root / "attached.err").read_text()
    assert "\n  accuracy " in out and "test  checkpoints/" in out and "first" in out
    assert "\x1b" not in out + err and "\r" not in err
    assert "running" in err and "step 10/10" in err


def test_show_json_has_what_scripts_rely_on(finished: Cli) -> None:
    run = finished.json("show", "first")
    assert set(run) >= SHOWN
    assert (run["name"], run["state"], run["reason"]) == ("first", "completed", "")
    assert run["progress"]["step"] == run["progress"]["max_steps"] == 10
    assert run["supervisor"]["pid"] is None
    (attempt,) = run["attempts"]
    assert (attempt["number"], attempt["state"]) == (1, "completed")
    assert [rank["rank"] for rank in attempt["ranks"]] == [0]
    assert run["checkpoints"][-1]["step"] == 10
    assert Path(run["checkpoints"][-1]["path"]).is_dir()
    assert run["evaluations"][0]["split"] == "test"
    assert run["evaluations"][0]["metrics"]["accuracy"] >= 0
    assert run["evaluations"][0]["real_time_factor"] > 0
    assert run["evaluations"][0]["seconds_per_utterance"] > 0
    digest = sha256_of_config(Path(run["folders"]["run"]))
    assert run["config_sha256"] == attempt["config_sha256"] == digest
    assert run["evaluations"][0]["config_sha256"] == digest
    assert run["git"]["commit"] == git(finished.root, "rev-parse", "HEAD").strip()
    assert run["git"]["branch"] == "main"
    assert no_process_of(run["id"])


def test_ls_show_logs_config_for_people(finished: Cli) -> None:
    run = finished.json("show", "first")
    header, row = finished.ok("ls").splitlines()
    assert header.split()[:3] == ["ID", "NAME", "STATE"]
    assert row.split()[:3] == [run["id"], "first", "completed"]
    page = finished.ok("show", run["id"][:5])
    assert "torch.distributed.run" in page and run["config_sha256"] in page
    events = [event["text"] for event in run["events"]]
    assert events[0] == "queued" and "running -> completed" in events
    assert "running -> completed" in page
    assert "rank0" in finished.ok("logs", "first")
    last = finished.ok("logs", "first", "--rank", "0", "--tail", "1")
    assert len(last.splitlines()) == 1 and "rank0" not in last.split()[0]
    assert finished("logs", "first", "--rank", "7").returncode == 3
    assert "rank0" in finished.ok("logs", "first", "-f"), "it ends, since the run has"
    assert finished.json("config", "explain", "seed")["origin"] == "--seed"


@pytest.fixture(scope="module")
def evaluated(finished: Cli) -> str:
    """What was said of an evaluation of its last checkpoint, asked for with a variable more."""
    folder = Path(finished.json("show", "first")["checkpoints"][-1]["path"])
    path = f"./{folder.relative_to(finished.root)}"
    finished.environment["NCCL_DEBUG"] = "WARN"
    said = finished.ok("eval", "first", "--split", "test", "--checkpoint", path, "--cpu")
    del finished.environment["NCCL_DEBUG"]
    return said


def test_eval_of_the_same_checkpoint_gives_the_same_number(finished: Cli, evaluated: str) -> None:
    run = finished.json("show", "first")
    before, folder = run["evaluations"][0]["metrics"], Path(run["checkpoints"][-1]["path"])
    assert "\n  accuracy " in evaluated
    newest = finished.json("show", "first")["evaluations"][-1]
    assert newest["number"] == 2 and newest["metrics"] == before
    assert newest["checkpoint"] == f"checkpoints/{folder.name}", "as `show` has it everywhere"
    manifest = (folder / "manifest.json").read_bytes()
    assert newest["checkpoint_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert newest["config_sha256"] == sha256_of_config(folder.parents[1] / "evaluations" / "0002")


def test_each_job_keeps_the_environment_of_its_own_command(finished: Cli, evaluated: str) -> None:
    shown = finished.json("show", "first")
    run = Path(shown["folders"]["run"])
    evaluation = run / "evaluations" / "0002" / "environment.json"
    variables = json.loads(evaluation.read_bytes())["variables"]
    assert variables["NCCL_DEBUG"] == "WARN"
    assert "NCCL_DEBUG" not in json.loads((run / "environment.json").read_bytes())["variables"]


def test_eval_on_any_number_of_ranks_gives_the_same_records(finished: Cli) -> None:
    # The run's V does not bind an evaluation: 3 ranks need not divide it.
    answers = set()
    for ranks in ("1", "3"):
        done = finished("eval", "first", "--split", "valid", "--cpu", "--nproc", ranks)
        assert done.returncode == 0, done.stderr
        shown = finished.json("show", "first")
        number = shown["evaluations"][-1]["number"]
        folder = Path(shown["folders"]["run"]) / "evaluations" / f"{number:04d}"
        result = json.loads((folder / "metrics.json").read_bytes())
        assert result["world_size"] == int(ranks)
        metrics = json.dumps(result["metrics"], sort_keys=True)
        answers.add((metrics, (folder / "predictions.jsonl").read_bytes()))
    assert len(answers) == 1


def test_refusals_name_the_reason(finished: Cli) -> None:
    for words, code, text in (
        (("run", *SHORT, "--name", "first"), 4, "'first' is held by run"),
        (("resume", "first"), 4, "train.max_steps=N"),
        (("stop", "first"), 4, "ended already"),
        (("rm", "first"), 2, "--yes"),
        (("eval", "first", "--split", "test", "--checkpoint", "77"), 3, "steps with one: 10"),
        (("resume", "first", "--from", "77"), 3, "steps with one: 10"),
        (("resume", "first", "--from", "./runs"), 2, "best or last"),
        (("logs", "first", "--attempt", "9"), 3, "attempts 1 to 1"),
    ):
        done = finished(*words)
        assert done.returncode == code, (words, done.stderr)
        assert text in done.stderr
    assert len(finished.json("ls")) == 1


def test_resume_trains_on_with_more_steps(finished: Cli) -> None:
    no_gpu = Cli(finished.root)
    no_gpu.environment["CUDA_VISIBLE_DEVICES"] = ""
    more = ("--set", "train.max_steps=12", "--set", "launch.device=gpu")
    refused = no_gpu("resume", "first", *more)
    assert refused.returncode == 4, refused.stderr
    advised = shlex.split(refused.stderr.split("`")[1])
    done = no_gpu(*advised[1:])
    assert done.returncode == 0, done.stderr
    run = finished.json("show", "first")
    assert (run["state"], run["progress"]["step"]) == ("completed", 12)
    first, second = run["attempts"]
    assert second["first_step"] == 10
    digest = sha256_of_config(Path(run["folders"]["run"]))
    assert run["config_sha256"] == second["config_sha256"] == digest != first["config_sha256"]
    assert (Path(run["folders"]["run"]) / "config.1.toml").is_file()


def test_ctrl_c_without_a_terminal_stops_the_run(cli: Cli) -> None:
    attached = cli.start("run", *LONG, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run = at_work(cli)
    attached.send_signal(signal.SIGINT)
    _, err = attached.communicate(timeout=60)
    assert attached.returncode == 130, err
    stopped = cli.json("show", run["id"])
    assert stopped["state"] == "stopped"
    assert stopped["checkpoints"], "it saves before it ends"
    assert no_process_of(run["id"])


def test_detach_stop_resume_wait_rm(cli: Cli) -> None:
    run_id = cli.ok("run", *LONG, "-q", "--detach").strip()
    assert run_id == cli.json("ls")[0]["id"]
    at_work(cli)
    assert cli("wait", run_id, "--timeout", "0.1").returncode == 5
    assert cli("rm", run_id, "--yes").returncode == 4
    assert "stopped" in cli.ok("stop", run_id)
    assert no_process_of(run_id)
    step = cli.json("show", run_id)["checkpoints"][-1]["step"]
    short = ("--set", f"train.max_steps={step + 2}")
    assert cli.ok("resume", run_id, *short, "-q", "--detach").strip() == run_id
    assert cli.ok("wait", run_id) == "completed\n"
    assert cli.ok("rm", run_id, "--yes").strip() == run_id
    assert cli.json("ls") == []
    assert not (cli.root / "runs" / run_id).exists()
    assert "refs/orchestra" not in git(cli.root, "for-each-ref")
    assert ".snapshots" in cli.ok("gc")
    assert list((cli.root / "runs" / ".snapshots").iterdir()) == []


def test_gc_says_how_large_the_feature_caches_are_and_deletes_from_them(
    cli: Cli, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    with open_registry(RunsFolder(cli.root / "runs")) as registry:
        config = json.dumps({"cache": {"folder": str(own)}})
        registry.create_run(NewRun("r1", "r1", "asr", "hubert", 0.0, 12, "0", config=config))
        registry.create_run(NewRun("r2", "r2", "asr", "hubert", 0.0, 12, "0", config="{}"))
    folders = (default_folder(RunsFolder(cli.root / "runs")), own)
    for folder in folders:
        entry = entry_path(folder, "0" * 16, "ab1")
        entry.parent.mkdir(parents=True)
        entry.write_bytes(b"x" * 100)
        (folder / ("0" * 16) / "kind.json").touch()
    nothing, whole = {"bytes": 0, "entries": 0}, {"bytes": 100, "entries": 1}

    def features(*options: str) -> list[Any]:
        return list(cli.json("gc", *options)["features"])

    kept = [{"folder": str(f), "deleted": nothing, "left": whole} for f in folders]
    assert features() == features("--features", "1") == kept
    gone = [{"folder": str(f), "deleted": whole, "left": nothing} for f in folders]
    assert features("--features", "0") == gone
    assert not any(entry_path(folder, "0" * 16, "ab1").exists() for folder in folders)


@pytest.mark.chaos
def test_wait_revives_a_run_whose_supervisor_was_killed(cli: Cli) -> None:
    run_id = cli.ok("run", *LONG, "--set", "train.max_steps=40", "-q", "-d").strip()
    before = at_work(cli)
    os.kill(before["supervisor"]["pid"], signal.SIGKILL)
    assert cli.ok("wait", run_id) == "completed\n"
    after = cli.json("show", run_id)
    assert [item["state"] for item in after["attempts"]] == ["lost", "completed"]
    assert no_process_of(run_id)


def test_ctrl_c_on_a_terminal_asks_and_detaches(cli: Cli) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cli.root)
        os.execve(cli.command()[0], cli.command("run", *LONG), cli.environment)
    try:
        run = at_work(cli)
        os.write(terminal, b"\x03")
        _read_until(terminal, b"[d]etach")
        os.write(terminal, b"d\n")
        seen = _read_until(terminal, b"detached")
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert b"Traceback" not in seen
    assert os.waitstatus_to_exitcode(status) == 0
    assert cli.json("show", run["id"])["state"] == "running"
    assert cli("stop", run["id"], "--now").returncode == 0
    assert no_process_of(run["id"])


def _read_until(terminal: int, text: bytes, seconds: float = 60.0) -> bytes:
    seen = b""
    deadline = time.monotonic() + seconds
    while text not in seen:
        left = deadline - time.monotonic()
        assert left > 0 and select.select([terminal], [], [], left)[0], seen
        seen += os.read(terminal, 4096)
    return seen


@pytest.mark.chaos
def test_two_runs_at_the_same_instant_are_two_runs(cli: Cli) -> None:
    both = [
        cli.start("run", *SHORT, "-q", "-d", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    ids = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert {row["id"] for row in cli.json("ls")} == ids and len(ids) == 2
    for run_id in ids:
        assert cli.ok("wait", run_id) == "completed\n"


#: What can be seen of a starting run from outside, in this order.
PHASES: dict[str, Callable[[Path], object]] = {
    "the lock of those who build": lambda runs: (runs / ".build.lock").exists(),
    "a folder in the making": lambda runs: next(runs.glob(".new-*"), None),
    "its snapshot": lambda runs: next(runs.glob(".snapshots/*"), None),
    "a run folder": lambda runs: next(runs.glob("[!.]*/run.json"), None),
    "a row": lambda runs: _rows(runs),
    "a supervisor": lambda runs: next(runs.glob("[!.]*/supervisor.log"), None),
    "an attempt": lambda runs: next(runs.glob("[!.]*/attempts/0001/attempt.json"), None),
}


def _rows(runs: Path) -> int:
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{runs}/registry.db?mode=ro", uri=True)
        ) as db:
            return int(db.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.OperationalError:  # not yet made
        return 0


#: The others are tried by `make chaos`.
_COMMONEST = ("a folder in the making", "a row", "an attempt")


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(phase, marks=() if phase in _COMMONEST else pytest.mark.chaos)
        for phase in PHASES
    ],
)
def test_an_early_ctrl_c_leaves_a_true_registry_and_no_process(cli: Cli, phase: str) -> None:
    """Wherever it strikes: either there is a stopped run, or there is nothing."""
    starting = cli.start("run", *LONG, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: PHASES[phase](cli.root / "runs"), every_s=0.002)
    starting.send_signal(signal.SIGINT)
    _, err = starting.communicate(timeout=90)
    assert starting.returncode in (130, -signal.SIGINT), err
    rows = cli.json("ls")
    refs = git(cli.root, "for-each-ref", "refs/orchestra")
    runs = cli.root / "runs"
    folders = [path.name for path in runs.glob("[!.]*") if path.is_dir()]
    assert folders == [row["id"] for row in rows]
    assert not list(runs.glob(".new-*"))
    assert bool(refs) == bool(rows)
    for row in rows:
        assert row["state"] == "stopped", err
        assert no_process_of(row["id"])
