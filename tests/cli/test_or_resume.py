"""`run --name X --or-resume`, given again and again, as cron would. Real runs."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.conftest import SHORT, Cli

pytestmark = pytest.mark.slow
NIGHTLY = ("run", *SHORT, "--seed", "3", "--name", "nightly", "--or-resume")


def test_it_needs_a_name(cli: Cli) -> None:
    done = cli("run", *SHORT, "--or-resume")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--name" in done.stderr


@pytest.mark.chaos
def test_stopped_it_resumes_and_completed_it_does_nothing(cli: Cli) -> None:
    run_id = cli.ok(*NIGHTLY, "--detach").strip()
    cli.ok("stop", "nightly", "--now")
    assert cli.json("show", "nightly")["state"] == "stopped"
    again = cli(*NIGHTLY)
    assert again.returncode == 0, again.stderr
    assert f"resuming run {run_id} (nightly), which was stopped" in again.stderr
    shown = cli.json("show", "nightly")
    assert (shown["state"], shown["id"]) == ("completed", run_id)
    attempts = len(shown["attempts"])
    done = cli(*NIGHTLY)
    assert done.returncode == 0
    assert "completed already" in done.stderr and "accuracy" in done.stdout
    assert cli.ok(*NIGHTLY, "--quiet") == f"{run_id}\n"
    assert len(cli.json("show", "nightly")["attempts"]) == attempts
    other = cli(*NIGHTLY, "--set", "optim.lr=0.5")
    assert other.returncode == 4
    assert "orchestra run example --cpu --preset debug --seed 3 --name nightly" in other.stderr
    assert len(cli.json("ls")) == 1


@pytest.mark.chaos
def test_given_twice_at_one_moment_there_is_one_run(cli: Cli) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [cli.start(*NIGHTLY, "--quiet", **pipes) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    (row,) = cli.json("ls")
    assert row["state"] == "completed" and row["attempt"] == 1
    assert {out.split()[0] for out, _ in said} == {row["id"]}
