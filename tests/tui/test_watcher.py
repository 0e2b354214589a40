"""What is read again, and when: rows at work each time, those of ended runs now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest

from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.board import Doing
from orchestra.tui import watcher
from orchestra.tui.watcher import Found, Wanted, Watcher
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.tui.monitor import add_runs


@pytest.fixture
def registry(workspace: Workspace) -> Iterator[Registry]:
    """Three ended runs, of which the newest goes on."""
    add_runs(workspace, ["a", "b", "c"])
    with open_registry(workspace.runs) as registry:
        registry.transition(JobKey("r00002"), [RunState.COMPLETED], RunState.STARTING)
        registry.transition(JobKey("r00002"), [RunState.STARTING], RunState.RUNNING)
        yield registry


@pytest.fixture
def watching(workspace: Workspace) -> Iterator[Watcher]:
    watching = Watcher(workspace)
    yield watching
    watching.close()


def _told(found: Found) -> list[tuple[str, str, int]]:
    return [(view.row.name, view.row.state.value, view.step) for view in found.views]


def test_steps_are_seen_at_the_next_look(registry: Registry, watching: Watcher) -> None:
    watching.look(Wanted())
    registry.progress("r00002", 7, {})
    assert _told(watching.look(Wanted())) == [
        ("c", "running", 7),
        ("b", "completed", 0),
        ("a", "completed", 0),
    ]


def test_beginnings_and_ends_are_seen_at_the_next_look(
    registry: Registry, watching: Watcher
) -> None:
    watching.look(Wanted())
    registry.transition(JobKey("r00002"), [RunState.RUNNING], RunState.FAILED)
    registry.create_run(NewRun("r00009", "new", "asr", "wavlm", 2e9, 10, "0"))
    found = watching.look(Wanted())
    assert [each[:2] for each in _told(found)][:2] == [("new", "queued"), ("c", "failed")]
    assert found.counts == {Doing.QUEUED: 1, Doing.FAILED: 1, Doing.COMPLETED: 2}
    registry.transition(JobKey("r00009"), [RunState.QUEUED], RunState.STARTING)
    found = watching.look(Wanted())
    assert found.counts == {Doing.STARTING: 1, Doing.FAILED: 1, Doing.COMPLETED: 2}


def test_what_ended_runs_say_is_read_again_soon(
    registry: Registry, watching: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "WHOLE_EVERY_S", math.inf)
    watching.look(Wanted())
    registry.relabel("r00000", name="other", tags=(), remark="")
    assert _told(watching.look(Wanted()))[2][0] == "a"  # the rows at work alone were read
    monkeypatch.setattr(watcher, "WHOLE_EVERY_S", 0.0)
    assert _told(watching.look(Wanted()))[2][0] == "other"  # though nobody wrote since


def test_after_an_action_all_is_read(registry: Registry, watching: Watcher) -> None:
    watching.look(Wanted())
    registry.relabel("r00000", name="other", tags=(), remark="")
    watching.distrust()
    assert _told(watching.look(Wanted()))[2][0] == "other"
    registry.relabel("r00000", name="another", tags=(), remark="")
    assert _told(watching.look(Wanted("state:completed")))[1][0] == "another"


def test_a_filter_hides_runs_from_the_page_and_not_from_the_counts(
    registry: Registry, watching: Watcher
) -> None:
    found = watching.look(Wanted("state:completed"))
    assert [view.row.name for view in found.views] == ["b", "a"]
    assert found.counts == {Doing.WORKING: 1, Doing.COMPLETED: 2}


def test_of_runs_asked_for_by_id_it_is_told_without_a_match(
    registry: Registry, watching: Watcher
) -> None:
    asked = ("r00000", "r00002", "gone")
    watching.look(Wanted("name:b"), asked)
    registry.progress("r00002", 7, {})
    others = watching.look(Wanted("name:b"), asked).others
    assert {run_id: view and view.step for run_id, view in others.items()} == {
        "r00000": 0,
        "r00002": 7,
        "gone": None,
    }
    assert watching.look(Wanted(), asked[:2]).others == {}  # they are on the page


@pytest.mark.parametrize(("query", "there"), [("created<2h", 0), ("-created>1h", 0), ("name:a", 1)])
def test_runs_grow_out_of_a_filter_by_age_though_nobody_writes(
    workspace: Workspace,
    watching: Watcher,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    there: int,
) -> None:
    add_runs(workspace, ["a"])  # a day ago
    monkeypatch.setattr(watcher, "WHOLE_EVERY_S", 0.0)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s - 86400 + 60)
    assert len(watching.look(Wanted(query)).views) == 1
    monkeypatch.setattr(time, "time", lambda: now_s)
    assert len(watching.look(Wanted(query)).views) == there
