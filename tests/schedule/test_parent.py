"""A parent run is its members: state and scores follow from theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.parent import (
    Parent,
    brief_of,
    find_parent,
    removed_members,
    scores_of,
    state_of,
)
from orchestra.schedule.submission import Given, points
from orchestra.wire.errors import NotFoundError
from orchestra.wire.job import EvaluationSpec
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace, init_workspace

RUN = NewRun("id", "name", "er", "fbank", 1.0, 100, "c" * 64)
S = RunState


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = init_workspace(tmp_path)
    found.runs.path.mkdir(exist_ok=True)
    with open_registry(found.runs) as registry:
        add(registry, "er-first", "pa11", ["a1", "a2", "a3"])
        add(registry, "er-second", "pb22", ["b1", "b2"])
        registry.create_run(replace(RUN, id="single1", name="er-first-again"))
    return found


def add(registry: Registry, name: str, parent: str, ids: list[str]) -> None:
    for number, run_id in enumerate(ids, 1):
        member = {"parent": parent, "member": f"task.fold={number}"}
        registry.create_run(replace(RUN, id=run_id, name=f"{name}.{number}", **member))


def evaluate(
    workspace: Workspace,
    registry: Registry,
    run_id: str,
    number: int,
    split: str,
    accuracy: float,
    origin: Literal["run", "user"] = "run",
) -> None:
    folder = workspace.runs.run(run_id).evaluation(number)
    folder.path.mkdir(parents=True)
    EvaluationSpec(split, "best", 1.0, origin).write(folder)
    registry.create_evaluation(run_id, number, split, "best", state=S.RUNNING)
    registry.finish_evaluation(run_id, number, {"accuracy": accuracy}, 100)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([S.COMPLETED, S.COMPLETED], S.COMPLETED),
        ([S.COMPLETED, S.QUEUED], S.QUEUED),
        ([S.FAILED, S.RESTARTING, S.QUEUED], S.RUNNING),
        ([S.COMPLETED, S.FAILED, S.QUEUED], S.FAILED),
        ([S.COMPLETED, S.STOPPED], S.STOPPED),
        ([S.PREEMPTED, S.COMPLETED], S.PREEMPTED),
    ],
)
def test_state_follows_from_the_members(states: list[RunState], expected: RunState) -> None:
    assert state_of(states) == expected
    assert state_of(states[::-1]) == expected


@pytest.mark.parametrize("reference", ["pa11", "pa", "er-first"])
def test_a_parent_is_found_by_id_name_and_their_beginnings(
    workspace: Workspace, reference: str
) -> None:
    parent = find_parent(workspace, reference)
    assert parent is not None
    assert (parent.id, parent.name) == ("pa11", "er-first")
    assert [member.id for member in parent.members] == ["a1", "a2", "a3"]


@pytest.mark.parametrize(
    "reference", ["a1", "er-first.1", "er-first-again", "single1", "er-f", "x", ""]
)
def test_what_means_a_run_or_nothing_is_no_parent(workspace: Workspace, reference: str) -> None:
    assert find_parent(workspace, reference) is None


def test_a_beginning_of_two_parents_names_both(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match=r"pa11 \(er-first\), pb22 \(er-second\)"):
        find_parent(workspace, "p")


def test_where_a_run_is_meant_a_parent_names_its_members(workspace: Workspace) -> None:
    with (
        open_registry(workspace.runs) as registry,
        pytest.raises(NotFoundError, match=r"pb22 is a parent run.*\(er-second\.1, er-second\.2\)"),
    ):
        registry.resolve("pb22")


def test_a_parent_is_named_where_one_run_is_meant(workspace: Workspace) -> None:
    with open_registry(workspace.runs) as registry:
        for reference in ("pa11", "er-first"):
            names = r"\(er-first\.1, er-first\.2, er-first\.3\)"
            with pytest.raises(NotFoundError, match=f"^{reference} is a parent run.*{names}"):
                registry.resolve(reference)
        with pytest.raises(NotFoundError, match="means several runs"):
            registry.resolve("er-f")


def test_a_member_of_another_name_does_not_rename_its_parent(workspace: Workspace) -> None:
    with open_registry(workspace.runs) as registry:
        registry.relabel("a1", name="winner", tags=(), remark="")
    parent = find_parent(workspace, "er-first")
    assert parent is not None and (parent.id, parent.name) == ("pa11", "er-first")


def test_a_mean_without_a_removed_member_says_so(workspace: Workspace) -> None:
    for run_id in ("a1", "a2", "a3"):
        config = workspace.runs.run(run_id).job.config
        config.parent.mkdir(exist_ok=True)
        config.write_text('[each]\n"task.fold" = [1, 2, 3]\n"task.other" = ["given by --set"]\n')
    with open_registry(workspace.runs) as registry:
        parent = find_parent(workspace, "pa11")
        assert parent is not None and removed_members(workspace, parent) == []
        assert brief_of(workspace, registry, parent) == ""
        evaluate(workspace, registry, "a1", 1, "fold1-test", 60.0)
        assert brief_of(workspace, registry, parent) == "accuracy 60 (1 of 3)"
        evaluate(workspace, registry, "a3", 1, "fold3-test", 80.0)
        registry.delete_run("a2")
        left = Parent("pa11", tuple(registry.members("pa11")))
        assert removed_members(workspace, left) == ["task.fold=2"]
        assert brief_of(workspace, registry, left) == "accuracy 70 +- 14.14 (2 of 3)"


def test_scores_are_the_mean_and_the_spread_of_the_members(workspace: Workspace) -> None:
    with open_registry(workspace.runs) as registry:
        for run_id, split, accuracy in (
            ("a1", "fold1-test", 60.0),
            ("a2", "fold2-test", 70.0),
            ("a3", "fold3-test", 80.0),
        ):
            evaluate(workspace, registry, run_id, 1, split, accuracy - 50.0)
            evaluate(workspace, registry, run_id, 2, split, accuracy)  # the newer one counts
            # Another checkpoint, looked at by hand: none of the parent's business.
            evaluate(workspace, registry, run_id, 3, split, 0.0, origin="user")
        parent = find_parent(workspace, "pa11")
        assert parent is not None
        (score,) = scores_of(workspace, registry, parent)
    assert score.split == "fold1-test, fold2-test, fold3-test"
    assert score.values == (60.0, 70.0, 80.0)
    assert (score.mean, score.deviation) == (70.0, 10.0)


def test_a_member_without_a_result_is_not_counted_as_one(workspace: Workspace) -> None:
    with open_registry(workspace.runs) as registry:
        evaluate(workspace, registry, "b1", 1, "test", 40.0)
        registry.create_evaluation("b2", 1, "test", "best", state=S.RUNNING)
        parent = find_parent(workspace, "pb22")
        assert parent is not None
        (score,) = scores_of(workspace, registry, parent)
        assert (score.values, score.mean, score.deviation) == ((40.0, None), 40.0, None)
        registry.transition(JobKey("b1"), {S.QUEUED}, S.RUNNING)
    found = find_parent(workspace, "pb22")
    assert found is not None and found.state == S.RUNNING


def test_points_are_all_combinations_but_of_what_is_set() -> None:
    each: dict[str, list[Any]] = {"task.fold": [1, 2], "optim.lr": [0.1, 0.2]}
    assert points(each, ()) == [
        (Given("task.fold", fold, "each"), Given("optim.lr", lr, "each"))
        for fold in (1, 2)
        for lr in (0.1, 0.2)
    ]
    assert points(each, ["optim.lr = 3"]) == [
        (Given("task.fold", 1, "each"),),
        (Given("task.fold", 2, "each"),),
    ]
    assert points(each, ["task.fold=1", "optim.lr=3"]) == points({}, ()) == []
