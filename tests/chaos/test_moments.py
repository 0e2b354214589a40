"""SIGKILL at each tender moment of a rank's life: real ranks, one run; a bad import ends it."""

from __future__ import annotations

import pytest

from orchestra.wire.job import JobState
from orchestra.wire.states import RunState
from tests.chaos import chain
from tests.chaos.chain import Link, Told
from tests.chaos.matrix import Saw
from tests.chaos.real import RealSandbox

pytestmark = pytest.mark.chaos

LINKS = [
    Link("SIGKILL in the first step", "sigkill", "signal", "was killed by SIGKILL", at=None,
         keeps=0),
    Link("SIGKILL during rendezvous", "sigkill", "signal", "was killed by SIGKILL",
         where="rendezvous", at=None, keeps=0),
    Link("SIGKILL of a rank", "sigkill", "signal", "was killed by SIGKILL"),
    Link("SIGKILL during load", "sigkill", "signal", "was killed by SIGKILL", where="load", at=None,
         keeps=0),
    Link("SIGKILL during a save", "sigkill", "signal", "was killed by SIGKILL", where="save",
         rank=0, at=2, keeps=0),
    Link("SIGKILL during evaluation", "sigkill", "signal", "was killed by SIGKILL", where="predict",
         at=2, keeps=0),
    Link("failing import", "import_what_is_not_there", "import",
         "ModuleNotFoundError: No module named 'no_such_module'", where="import", at=None, keeps=0),
]  # fmt: skip


@pytest.fixture(scope="module")
def told(shared: RealSandbox) -> list[Told]:
    return chain.run(shared, LINKS, train={"eval_every": 2}, batch={"eval_seconds": 1.0})


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=pytest.mark.fault(link.fault)) for n, link in enumerate(LINKS)]
)
def test_the_restart_is_from_the_newest_checkpoint(told: list[Told], number: int, saw: Saw) -> None:
    told[number].check(saw)


def test_an_import_that_fails_is_not_tried_again(told: list[Told], shared: RealSandbox) -> None:
    (job,) = shared.jobs
    state = JobState.read(job)
    assert told[-1].following is None
    assert state.state == RunState.FAILED
    assert state.reason.endswith("not retried: correct the code")
