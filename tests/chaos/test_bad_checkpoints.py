"""Checkpoints that went bad: each is set aside with its reason, the newest good one is used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestra.wire.checkpoints import QUARANTINE, REASON
from orchestra.wire.states import AttemptState
from tests.chaos import chain
from tests.chaos.chain import Link, Told
from tests.chaos.matrix import Saw
from tests.chaos.real import RealSandbox

pytestmark = pytest.mark.chaos

ONE = Link("", "", "signal", "was killed by SIGKILL", keeps=0)
LINKS = [
    Link("SIGKILL of a rank", "sigkill", "signal", "was killed by SIGKILL", at=5, keeps=4),
    replace(ONE, fault="truncated checkpoint", how="truncate"),
    replace(ONE, fault="bit flip in a checkpoint", how="flip"),
    replace(ONE, fault="empty file in a checkpoint", how="empty"),
    replace(ONE, fault="checkpoint without manifest", how="remove_manifest"),
    replace(ONE, fault="newest two checkpoints bad", how="flip_two", at=5),
]
SAYS = {
    "truncate": "bytes",
    "flip": "sha256",
    "empty": "bytes",
    "remove_manifest": "manifest",
    "flip_two": "sha256",
}


@pytest.fixture(scope="module")
def told(shared: RealSandbox) -> list[Told]:
    return chain.run(shared, LINKS)


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=pytest.mark.fault(link.fault)) for n, link in enumerate(LINKS)]
)
def test_the_one_before_is_used(told: list[Told], number: int, saw: Saw) -> None:
    told[number].check(saw)


def test_each_is_set_aside_with_its_reason(told: list[Told], shared: RealSandbox) -> None:
    (job,) = shared.jobs
    following = told[-1].following
    assert following is not None
    assert following.state == AttemptState.COMPLETED
    aside = sorted((job.run.checkpoints / QUARANTINE).iterdir())
    reasons = [(folder / REASON).read_text() for folder in aside]
    assert len(reasons) == 6, reasons
    for part in SAYS.values():
        assert any(part in reason for reason in reasons), (part, reasons)
