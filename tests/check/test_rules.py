"""A sound task keeps all rules; one cause is one finding; whatever is raised is told."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.check.compare import difference
from orchestra.check.contract import RULES, Rule, check
from orchestra.check.subject import Subject
from orchestra.schedule import new_task as new_task_module
from orchestra.testing import find, subject_of
from orchestra.wire.errors import DataError, OrchestraError
from orchestra.workspace import init_workspace
from tests.check.finding import finding


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_sound_task_keeps_every_rule(rule: Rule, sound: Subject) -> None:
    found = find(rule, sound)
    assert found.ok, found.text
    assert found.text and rule.claim.endswith("."), rule.claim


def test_state_that_no_checkpoint_holds(sound: Subject, example: Any) -> None:
    class Counting(example):
        steps = 0

        def loss(self, *given: Any) -> Any:
            self.steps += 1
            terms = super().loss(*given)
            return replace(terms, sum=terms.sum * self.steps)

    found = finding("resume", sound, Counting)
    assert found.state == "broken"
    assert "after a resume in step 2 of 4" in found.text and "parameter or a buffer" in found.text


def test_state_that_is_no_tensor(sound: Subject, example: Any) -> None:
    class Extra(example):
        def build_head(self, dim: int, stride: int) -> Any:
            head = super().build_head(dim, stride)
            kind = type(head)
            head.__class__ = type("Extra", (kind,), {"get_extra_state": lambda self: {"a": 1}})
            return head

    assert "is of type dict: a checkpoint holds tensors" in finding("resume", sound, Extra).text


def test_one_cause_is_one_finding(sound: Subject, example: Any) -> None:
    class Nan(example):
        def loss(self, *given: Any) -> Any:
            terms = super().loss(*given)
            return replace(terms, sum=terms.sum * torch.nan)

    found = list(check(replace(sound, task_class=Nan)))
    assert [f.rule for f in found if f.state == "broken"] == ["loss"]
    skipped = {f.rule: f.text for f in found if f.state == "skipped"}
    assert skipped["resume"] == "not looked at before 'loss' is kept"


class Oops(Exception):
    """An error of a task's own."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Oops, "Oops, without a word of why"),
        (SystemExit, "SystemExit, without a word of why"),
        (StopIteration("end"), "StopIteration: end"),
        (DataError(""), "DataError, without a word of why"),
    ],
)
def test_whatever_is_raised_is_told(sound: Subject, example: Any, error: Any, text: str) -> None:
    class Other(example):
        def loss(self, *given: Any) -> Any:
            raise error

    found = finding("loss", sound, Other, folder=Path(__file__).parent)
    assert found.state == "broken"
    assert found.text.startswith("test_rules.py, line ") and found.text.endswith(text)


def test_a_mistake_is_found_with_its_line_and_spares_the_other_rules(
    sound: Subject, example: Any, tmp_path: Path
) -> None:
    code = "def loss(self, *given):\n    return {}['nothing']\n"
    (tmp_path / "task.py").write_text(code)
    names: dict[str, Any] = {}
    exec(compile(code, tmp_path / "task.py", "exec"), names)  # noqa: S102
    wrong = type("Wrong", (example,), {"loss": names["loss"]})
    (tmp_path / "config.py").write_text((sound.folder / "config.py").read_text())
    found = {f.rule: f for f in check(replace(sound, task_class=wrong, folder=tmp_path))}
    assert found["config"].ok, found["config"].text
    assert found["loss"].text == "task.py, line 2, in loss: KeyError: 'nothing'"
    assert found["loss"].state == "broken" and found["score"].ok


@pytest.mark.parametrize(
    ("file", "code", "text"),
    [
        ("task.py", "import nothing_such\n", "task.py, line 1, in <module>: ModuleNotFoundError"),
        ("task.py", "class Task(:\n", "SyntaxError: invalid syntax (task.py, line 1)"),
        ("task.py", "Task = 3\n", "no class Task(orchestra.tasks.Task)"),
        (
            "tiny.py",
            "def make(root, seed):\n    return 1 / 0\n",
            "tiny.py, line 2, in make: ZeroDivisionError",
        ),
        ("tiny.py", "def make(root, seed):\n    pass\n", "its prepare.py can't read what tiny.py"),
    ],
)
def test_code_that_can_not_even_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, code: str, text: str
) -> None:
    monkeypatch.setattr(
        new_task_module,
        "_data",
        lambda *given: subprocess.CompletedProcess([], 0, '{"corpora": []}', ""),
    )
    workspace = init_workspace(tmp_path / "workspace")
    new_task_module.new_task(workspace, "mine")
    (workspace.root / "tasks" / "mine" / file).write_text(code)
    with pytest.raises(OrchestraError) as caught:
        subject_of("mine", workspace.root, tmp_path / "folder")
    assert text in str(caught.value)


def test_without_data_nothing_else_is_looked_at(sound: Subject, example: Any) -> None:
    class Bare(example):
        def utterances(self, split: str) -> Any:
            return []

    states = {found.rule: found.state for found in check(replace(sound, task_class=Bare))}
    assert (states["config"], states["ids"], states["resume"]) == ("ok", "broken", "skipped")


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (1.0, 1.00001, None),
        ({"a": [1, 2.0]}, {"a": [1, 2.1]}, "a[1] is 2.0, then 2.1"),
        ({"a": 1}, {"b": 1}, "has ['a'], then ['b']"),
        ([1], [1, 2], "has 1 items, then 2"),
        ("x", "y", "is 'x', then 'y'"),
        (float("nan"), float("nan"), None),
    ],
)
def test_differences_in_words(one: Any, other: Any, text: str | None) -> None:
    assert difference(one, other) == text
