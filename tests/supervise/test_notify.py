"""Real commands, run by a real process that reaps them. Whatever they do, telling ends well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.settings import user_settings_path
from orchestra.supervise import tree
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.notify import notice, notify_command
from orchestra.supervise.state import JobRecord
from orchestra.wire.job import JobState
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox

NOTIFYING = Path(__file__).with_name("notifying.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "r1"
    path.mkdir()
    return path


def script(folder: Path, text: str) -> str:
    path = folder.parent / "notify.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def tell(folder: Path, command: str, *events: str, longest_s: float = 30.0) -> list[str]:
    """The complaints."""
    done = subprocess.run(
        [sys.executable, NOTIFYING, folder, str(longest_s), command, *events],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.glob("notice-*")) == []  # it is read, or it is of no use
    return done.stdout.splitlines()


def test_a_command_gets_one_json_on_stdin(folder: Path) -> None:
    command = script(folder, 'cat > "$1.$$"')
    assert tell(folder, f"{command} {folder}/told", "stalled", "failed") == []
    told = [json.loads(path.read_text()) for path in folder.glob("told.*")]
    assert sorted(each["event"] for each in told) == ["failed", "stalled"]
    assert all(each["reason"] == "a \x1b[31m reason\n" for each in told)


def test_a_command_is_found_in_path(folder: Path) -> None:
    assert tell(folder, f"tee {folder}/told", "completed") == []
    assert json.loads((folder / "told").read_text())["state"] == "completed"


def test_without_a_command_nothing_happens(folder: Path) -> None:
    assert tell(folder, "", "failed") == []
    assert list(folder.iterdir()) == []


def test_a_command_that_fails_is_told_and_so_is_what_it_said(folder: Path) -> None:
    command = script(folder, "echo no route to host >&2; exit 7")
    (complaint,) = tell(folder, command, "failed")
    assert complaint.startswith(f"notify.command ({command}) for 'failed' ended with code 7")
    assert (folder / "supervisor.log").read_text() == "no route to host\n"


def test_a_command_that_is_killed_is_told(folder: Path) -> None:
    (complaint,) = tell(folder, script(folder, "kill -9 $$"), "failed")
    assert "ended by signal 9" in complaint


def test_a_command_that_never_ends_is_killed_with_all_that_it_started(folder: Path) -> None:
    command = script(folder, f'echo "$ORCHESTRA_TAG" > {folder}/tag; setsid sleep 600 & sleep 600')
    (complaint,) = tell(folder, command, "completed", longest_s=1.0)
    assert "took more than 1 s: killed" in complaint
    assert tree.tagged((folder / "tag").read_text().strip()) == []


def test_the_next_notice_does_not_wait_for_the_one_before(folder: Path) -> None:
    """The first ends once the second has been told."""
    wait = f"read it; case $it in *stalled*) until [ -e {folder}/two ]; do sleep 0.05; done;; "
    command = script(folder, f"{wait} *) touch {folder}/two;; esac")
    assert tell(folder, command, "stalled", "completed") == []


@pytest.mark.parametrize("command", ["/no/such/program -x", "no-such-program-anywhere", "/etc"])
def test_a_command_that_is_none_is_told(folder: Path, command: str) -> None:
    (complaint,) = tell(folder, command, "failed")
    assert complaint.startswith(f"notify.command ({command.split()[0]}) can't be run: ")


def test_a_program_that_the_kernel_refuses_is_told(folder: Path) -> None:
    path = folder.parent / "broken"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    (complaint,) = tell(folder, str(path), "failed")
    assert "can't be run" in complaint


def test_a_folder_that_takes_no_file_is_told(folder: Path) -> None:
    (folder / "supervisor.log").mkdir()  # root can write everywhere else
    (complaint,) = tell(folder, "cat", "failed")
    assert "can't be run" in complaint


def test_wrong_settings_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    complaints: list[str] = []
    assert notify_command(complaints.append) == ()
    assert complaints == []
    path = user_settings_path()
    path.parent.mkdir()
    path.write_text("[notify]\ncommand = \"curl -d @- 'https://x y'\"\n")
    assert notify_command(complaints.append) == ("curl", "-d", "@-", "https://x y")
    path.write_text("[notify]\ncommand = 3\n")
    assert notify_command(complaints.append) == ()
    (complaint,) = complaints
    assert complaint.startswith("nobody will be notified: ")
    assert str(path) in complaint


def test_what_is_told_of_a_run(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    sandbox.wait_end(sandbox.start(job))
    before = time.time()
    with sandbox.registry() as registry:
        document = notice(registry, JobKey(job.run.id), JobState.read(job), sandbox.workspace.root)
    assert before <= document.pop("time") <= time.time()
    assert document == {
        "run": job.run.id,
        "name": job.run.id,
        "task": "standin",
        "kind": "train",
        "evaluation": None,
        "state": "completed",
        "reason": "",
        "step": 12,
        "score": 10.0,
        "metric": "m",
        "host": os.uname().nodename,
        "workspace": str(sandbox.workspace.root),
    }


def test_what_is_told_of_an_evaluation(sandbox: Sandbox) -> None:
    run = sandbox.add_run().run
    state = JobState(RunState.FAILED, "boom", 1, 0.0)
    root = sandbox.workspace.root
    with sandbox.registry() as registry:
        registry.progress(run.id, 5, {"metric": "wer", "score": 9.0})
        registry.create_evaluation(run.id, 2, "test", "best")
        failed = notice(registry, JobKey(run.id, 2), state, root)
        assert (failed["kind"], failed["evaluation"]) == ("evaluate", 2)
        assert (failed["reason"], "score" in failed) == ("boom", False)
        registry.add_result(run.id, 2, {"wer": 7.5, "cer": 2.0}, 5)
        assert notice(registry, JobKey(run.id, 2), state, root)["score"] == 7.5
        registry.delete_run(run.id)
        assert notice(registry, JobKey(run.id), state, root)["name"] == run.id


def test_a_complaint_is_an_event_of_the_run(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    job = sandbox.add_run()
    with sandbox.registry() as registry:
        record = JobRecord(job, JobKey(job.run.id), registry, Mirror(), supervisor=None)
        record.note("notice", "nobody was told")
        event = registry.events(job.run.id)[-1]
    assert (event.kind, event.text) == ("notice", "nobody was told")
    assert "nobody was told" in capsys.readouterr().err  # supervisor.log
