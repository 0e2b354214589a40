"""orchestra task new and check: the generated test passes at once, a broken task is found."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow


@pytest.mark.tasks
def test_a_new_task_passes_its_test_and_a_broken_one_is_found(cli: Cli) -> None:
    listed = cli.ok("task", "new", "mine").splitlines()
    assert "tasks/mine/task.py" in listed and "data/mine" in listed
    test = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/tasks"],
        cwd=cli.root,
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert test.returncode == 0, test.stdout
    planned = cli.ok("run", "mine", "--cpu", "--dry-run")
    assert "90 utterances" in planned
    source = cli.root / "tasks" / "mine" / "task.py"
    source.write_text(source.read_text().replace('reduction="sum"', 'reduction="mean"'))
    done = cli("task", "check", "mine", "--json")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    broken = {f["rule"]: f["text"] for f in document["findings"] if f["state"] == "broken"}
    assert broken.keys() == {"loss adds up"} and document["broken"] == 1
    assert "give sums, not means" in broken["loss adds up"]


def test_what_can_not_be_checked(cli: Cli) -> None:
    unknown = cli("task", "check", "exampel")
    assert unknown.returncode == 3 and "did you mean 'example'" in unknown.stderr
    bare = cli("task", "check", "asr")
    assert bare.returncode == 3 and "on data that you name: --set data.manifests=" in bare.stderr
    wrong = cli("task", "check", "example", "--set", "task.classes=1")
    assert wrong.returncode == 2 and "task.classes" in wrong.stderr
