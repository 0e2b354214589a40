from __future__ import annotations

import time

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule.journal import Entry, journal
from orchestra.wire.job import Attempt
from orchestra.wire.states import AttemptState, RunState
from tests.chaos.sandbox import Sandbox

KEY = JobKey("one")


@pytest.fixture
def entries(sandbox: Sandbox) -> list[Entry]:
    """A run whose first attempt fails by rank 1, which is restarted, and which fails for good."""
    sandbox.add_run(run_id="one")
    start = time.time()
    with sandbox.registry() as registry:
        for number in (1, 2):
            begun = Attempt(number, f"t{number}", 2, (), start + number)
            registry.start_attempt(KEY, begun)
            ended = Attempt(
                number, f"t{number}", 2, (), start + number, AttemptState.CRASHED, "boom",
                ended_at=start + number + 0.5, failure={"rank": 1},
            )  # fmt: skip
            registry.end_attempt(KEY, ended)
        registry.transition(KEY, frozenset(RunState), RunState.FAILED, reason="gave up")
        return list(journal(registry, "one"))


def test_each_event_names_its_attempt_and_the_rank_that_failed(entries: list[Entry]) -> None:
    told = [(entry.kind, entry.attempt, entry.rank, entry.is_error) for entry in entries]
    assert told[0] == ("state", None, 0, False)
    assert told[1:5] == [
        ("attempt", 1, 1, False),
        ("attempt", 1, 1, True),
        ("attempt", 2, 1, False),
        ("attempt", 2, 1, True),
    ]
    assert told[5][0] == "state" and told[5][3]


def test_of_an_unknown_run_nothing(sandbox: Sandbox) -> None:
    with sandbox.registry() as registry:
        assert journal(registry, "nobody") == ()
