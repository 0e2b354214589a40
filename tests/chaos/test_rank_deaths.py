"""What else a rank may die of in mid-run: real ranks, one run, which ends by one of them."""

from __future__ import annotations

import pytest

from orchestra.wire.identity import start_ticks
from orchestra.wire.job import JobState
from orchestra.wire.states import RunState
from tests.chaos import chain
from tests.chaos.chain import Link, Told
from tests.chaos.matrix import Saw
from tests.chaos.real import RealSandbox

pytestmark = pytest.mark.chaos

LINKS = [
    Link("GPU error", "gpu_error", "crash", "RuntimeError: CUDA error: an illegal memory access"),
    Link("GPU sleep", "sleep_in_c", "hang", "hung in forward", stack="in _sleep_in_c"),
    Link("async exception", "async_exception", "crash", "InterruptedError"),
    Link("exception from a signal", "exception_from_a_signal", "crash", "a handler got signal 12"),
    Link("os.abort", "abort", "signal", "was killed by SIGABRT"),
    Link("SIGINT of a rank", "sigint", "crash", "KeyboardInterrupt"),
    Link("SIGTERM of a rank", "sigterm", "signal", "was killed by SIGTERM"),
    Link("deaf to SIGTERM", "exception", "crash", "RuntimeError: boom", rank=0,
         other="deaf_to_sigterm"),
    Link("SIGKILL of a loader worker", "kill_a_loader_worker", "crash", "DataLoader worker"),
    Link("escaped child", "escape", "signal", "was killed by SIGKILL"),
    Link("out of memory (torch)", "allocate_tensor", "out of memory",
         "OutOfMemoryError: out of memory in a training step of"),
    Link("out of memory (Python)", "allocate_bytes", "out of memory", "MemoryError"),
    Link("port taken", "take_a_taken_port", "rendezvous", "EADDRINUSE"),
    Link("NaN", "nan", "nan", "not finite in 20 steps in a row", rank=0,
         either=True),
]  # fmt: skip


@pytest.fixture(scope="module")
def told(shared: RealSandbox) -> list[Told]:
    return chain.run(shared, LINKS, data={"workers": 1}, train={"max_steps": 200})


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=pytest.mark.fault(link.fault)) for n, link in enumerate(LINKS)]
)
def test_the_cause_is_told(told: list[Told], number: int, saw: Saw) -> None:
    told[number].check(saw)


def test_who_escaped_is_dead(told: list[Told]) -> None:
    (escaped,) = [each for each in told if each.link.how == "escape"]
    assert start_ticks(int(escaped.strike.text)) is None


def test_the_deaf_rank_went_with_its_peer(told: list[Told]) -> None:
    """torchrun would give it half a minute to react to SIGTERM."""
    (deaf,) = [each for each in told if each.link.other]
    assert deaf.attempt.ended_at is not None
    assert deaf.attempt.ended_at - deaf.strike.at < 25


def test_nan_is_not_tried_again(told: list[Told], shared: RealSandbox) -> None:
    (job,) = shared.jobs
    assert told[-1].following is None
    assert JobState.read(job).state == RunState.FAILED
