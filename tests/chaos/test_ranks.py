"""What a rank may die of in mid-run, the commonest faults: real ranks, one run."""

from __future__ import annotations

import pytest

from orchestra.wire.states import AttemptState
from tests.chaos import chain
from tests.chaos.chain import Link, Told
from tests.chaos.matrix import Saw
from tests.chaos.real import RealSandbox

pytestmark = pytest.mark.slow

LINKS = [
    Link("exception", "exception", "crash", "with exit code 1: RuntimeError: boom"),
    Link("SIGKILL of a rank", "sigkill", "signal", "was killed by SIGKILL", rank=0),
    Link("segmentation fault", "segfault", "signal", "was killed by SIGSEGV"),
    Link("SIGSTOP of a rank", "sigstop", "hang", "was stopped (SIGSTOP) in forward",
         stack="in _sigstop"),
    Link("GIL held", "hold_the_gil", "hang", "hung in forward", rank=0, stack="in _hold_the_gil"),
]  # fmt: skip


@pytest.fixture(scope="module")
def told(shared: RealSandbox) -> list[Told]:
    return chain.run(shared, LINKS)


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=pytest.mark.fault(link.fault)) for n, link in enumerate(LINKS)]
)
def test_the_run_goes_on(told: list[Told], number: int, saw: Saw) -> None:
    told[number].check(saw)


def test_the_run_is_completed(told: list[Told]) -> None:
    following = told[-1].following
    assert following is not None
    assert following.state == AttemptState.COMPLETED
