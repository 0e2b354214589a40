"""What one process can't show: tasks that depend on ranks, or on the order of a set."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.check.contract import check
from orchestra.check.corpus import make_corpus
from orchestra.check.mistakes import Violation
from orchestra.check.processes import Processes
from orchestra.check.subject import Subject
from orchestra.schedule.check_task import plan_check
from orchestra.wire.builtin import package_folder
from orchestra.workspace import init_workspace

BROKEN = {
    "a loss that is summed over ranks": (
        "        return LossTerms(",
        "        if torch.distributed.is_initialized():\n"
        "            torch.distributed.all_reduce(logits.data)\n"
        "        return LossTerms(",
        "loss: sum is ",
    ),
    "classes in the order of a set": (
        '{"classes": sorted(labels)}',
        '{"classes": list(labels)}',
        "learn(): classes[",
    ),
    "a prediction that knows its rank": (
        '"predicted": self.classes[number]}',
        '"predicted": self.classes[number] + __import__("os").environ.get("RANK", "")}',
        "predicted is ",
    ),
    "a rank that fails": (
        "        best = head",
        '        assert __import__("os").environ.get("RANK") != "1"\n        best = head',
        "rank 1 of 2: rank: task.py, line ",
    ),
}


def subject_of(root: Path, old: str = "", new: str = "") -> tuple[Subject, Processes]:
    """The template's task with `new` for `old`, in a workspace of its own; and the rule."""
    workspace = init_workspace(root).root
    folder = workspace / "tasks" / "newtask"
    folder.mkdir()
    for path in (package_folder() / "templates" / "task").glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    sound = (folder / "task.py").read_text()
    assert old in sound
    (folder / "task.py").write_text(sound.replace(old, new))
    planned = plan_check("newtask", workspace, root / "data")
    config = root / "config.toml"
    config.write_bytes(planned.composed.toml)
    data = planned.composed.config.data
    assert data.root and data.manifests
    make_corpus("newtask", workspace, data.root, data.manifests)
    subject = Subject.of(planned.composed.config, planned.composed.task)
    return subject, Processes(config, workspace)


@pytest.mark.tasks
def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    subject, processes = subject_of(tmp_path / "sound")
    assert processes(subject) == "24 records, a loss and 4 tensors"


@pytest.mark.tasks
@pytest.mark.parametrize("what", BROKEN)
def test_two_processes_find_what_one_does_not(what: str, tmp_path: Path) -> None:
    old, new, text = BROKEN[what]
    subject, processes = subject_of(tmp_path / "broken", old, new)
    assert [found.text for found in check(subject) if not found.ok] == []
    with pytest.raises(Violation) as caught:
        processes(subject)
    assert text in str(caught.value)
