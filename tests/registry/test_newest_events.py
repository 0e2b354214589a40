from __future__ import annotations

from orchestra.registry.store import Registry
from tests.registry.conftest import MakeRun


def test_newest_events_of_all_runs_and_behind_an_id(registry: Registry, new_run: MakeRun) -> None:
    for run_id in ("r1", "r2"):
        registry.create_run(new_run(run_id))
    for number in range(3):
        registry.add_event("r1", "notice", f"first {number}")
        registry.add_event("r2", "notice", f"second {number}")
    newest = registry.newest_events(3)
    assert [event.event.text for event in newest] == ["second 1", "first 2", "second 2"]
    assert newest[0].name == "name-r2"
    assert registry.newest_events(9, after_id=newest[0].id) == newest[1:]
    own = registry.newest_events(2, run_id="r1")
    assert [event.event.text for event in own] == ["first 1", "first 2"]
