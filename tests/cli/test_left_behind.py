"""`up`, `reap` and `service` as commands: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from orchestra.cli.main import build
from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.supervise import tree
from orchestra.wire.errors import UsageError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.job import JOB, RUN, TAG, JobState
from orchestra.wire.states import RunState
from tests.chaos.sandbox import wait_for
from tests.cli.conftest import SHORT, Cli


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a run that was removed; `reap` sees no other, as tests beside this one have
    dead runs of their own."""
    tag = f"gone.1.{os.urandom(4).hex()}"
    environment = {TAG: tag, RUN: "gone", JOB: str(tmp_path / "gone")}
    process = subprocess.Popen(["/bin/sleep", "600"], env=environment)
    environ = Path(f"/proc/{process.pid}/environ")
    wait_for("its environment", lambda: tag.encode() in environ.read_bytes())
    scan = tree.scan
    monkeypatch.setattr(tree, "scan", lambda: [item for item in scan() if item.tag == tag])
    yield process
    process.kill()
    process.wait()


def reap(*words: str) -> Result:
    return CliRunner().invoke(build(["reap"]), ["reap", *words])


def test_reap_lists_asks_and_kills(left: subprocess.Popen[bytes]) -> None:
    listed = reap("--dry-run")
    assert listed.exit_code == 0 and str(left.pid) in listed.stdout
    assert "its run was removed" in listed.stdout
    refused = reap()  # nobody to ask
    assert isinstance(refused.exception, UsageError)
    assert str(left.pid) in refused.stdout
    assert "--yes kills 1 process" in str(refused.exception)
    assert left.poll() is None
    document = json.loads(reap("--dry-run", "--json").stdout)
    (mine,) = document["dead"]
    assert (mine["run_id"], mine["command"]) == ("gone", "/bin/sleep 600")
    assert document["killed"] == 0
    done = reap("--yes")
    assert (done.exit_code, done.stderr) == (0, "killed 1\n")
    assert left.wait(60) == -9


def test_what_survives_is_named(
    left: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "kill", lambda process, tags: False)  # as if in state D
    done = reap("--yes")
    assert done.exit_code == 1
    assert f"could not be killed: sleep (pid {left.pid}, state S" in done.stderr


@pytest.mark.chaos
def test_up_goes_on_with_a_preempted_run(cli: Cli) -> None:
    assert "nothing is unfinished here" in cli("up").stderr
    run_id = cli.ok("run", *SHORT, "--quiet").strip()
    runs = RunsFolder(cli.root / "runs")
    with open_registry(runs) as registry:
        registry.transition(JobKey(run_id), frozenset(RunState), RunState.PREEMPTED)
    job = runs.run(run_id).job
    JobState(RunState.PREEMPTED, "", JobState.read(job).attempt, 0.0).write(job)
    assert cli.ok("up", "--dry-run") == f"{run_id}: was preempted; queued again\n"
    assert cli.ok("up") == f"{run_id}: was preempted; queued again; starts now\n"
    assert cli.ok("wait", run_id) == "completed\n"


def test_service_writes_the_unit_and_takes_it_back(cli: Cli, tmp_path: Path) -> None:
    cli.environment |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": str(tmp_path)}
    shown = cli.ok("service", "install", "--print")
    assert f'"--workspace" "{cli.root}" "up"' in shown
    assert not (tmp_path / "config").exists()
    done = cli("service", "install")
    unit = Path(done.stdout.strip())
    assert done.returncode == 0 and unit.read_text() == shown
    assert "systemctl --user enable" in done.stderr
    assert cli.ok("service", "uninstall") == f"{unit}\n"
    assert not unit.exists()
    assert cli("service", "uninstall").returncode == 3
