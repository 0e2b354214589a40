"""One run in which each attempt meets another fault, and what became of it.

A start of real ranks takes seconds; between two faults the run makes progress, so that each is
judged by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestra.registry.rows import JobKey
from orchestra.supervise import tree
from orchestra.wire.folders import AttemptFolder
from orchestra.wire.job import Attempt, JobState
from tests.chaos.matrix import Saw
from tests.chaos.real import EVERY, RealSandbox, Strike
from tests.chaos.sandbox import wait_for


@dataclass(frozen=True)
class Link:
    """A fault of one attempt, in words of tests/chaos/workspace/tasks/broken/faults.py."""

    fault: str
    how: str
    cause: str
    says: str
    """Part of the sentence."""
    rank: int = 1
    where: str = "forward"
    at: int | None = EVERY + 1
    """After so many steps of the attempt; None: before the first step of all."""
    keeps: int = EVERY
    """How many of its steps outlive it."""
    either: bool = False
    """Both ranks end by it, each may be the first."""
    other: str = ""
    """How the other rank breaks at the same time."""
    stack: str = ""
    """The function in which it hung."""


@dataclass(frozen=True)
class Told:
    """What is on record of a fault."""

    link: Link
    folder: AttemptFolder
    attempt: Attempt
    following: Attempt | None
    strike: Strike
    resumes_at: int

    def check(self, saw: Saw) -> None:
        """Cause, rank, sentence, stacks, and where the next attempt started."""
        link, failure = self.link, self.attempt.failure
        assert failure is not None, self.attempt
        assert failure["cause"] == link.cause, failure
        assert failure["rank"] == link.rank or link.either, failure
        assert link.says in failure["sentence"], failure["sentence"]
        if link.stack:
            for rank in range(self.attempt.world_size):
                stacks = self.folder.rank_stacks(rank).read_text()
                assert "most recent call first" in stacks, rank
                if rank == link.rank:
                    assert link.stack in stacks
        then = "not retried"
        if self.following is not None:
            assert self.following.first_step == self.resumes_at
            then = f"restarted from step {self.resumes_at}"
        assert self.attempt.ended_at is not None
        after_s = self.attempt.ended_at - self.strike.at
        saw(f"{failure['cause']}: rank {failure['rank']} {link.says}; {then}", after_s)


def run(sandbox: RealSandbox, links: Sequence[Link], **tables: dict[str, Any]) -> list[Told]:
    """One run through all of them, to its end; what became of each."""
    faults: list[dict[str, Any]] = []
    resumes, start = [], 0
    for number, link in enumerate(links, 1):
        step = 0 if link.at is None else start + link.at
        fault = {"attempt": number, "where": link.where, "step": step}
        faults.append({**fault, "rank": link.rank, "how": link.how})
        if link.other:
            faults.append({**fault, "rank": 1 - link.rank, "how": link.other})
        start += link.keeps
        resumes.append(start)
    task = {**tables.pop("task", {}), "faults": faults}
    steps = max(fault["step"] for fault in faults) + EVERY
    job = sandbox.add_real_run(steps=steps, task=task, **tables)
    state = sandbox.wait_end(sandbox.start(job))
    attempts = sandbox.attempts(job)
    _check_the_end(sandbox, job.run.id, attempts, state)
    following: list[Attempt | None] = [*attempts[1:], None]
    return [
        Told(
            link,
            job.attempt(number),
            attempts[number - 1],
            following[number - 1],
            sandbox.strike(job, number, link.rank),
            resumes[number - 1],
        )
        for number, link in enumerate(links[: len(attempts)], 1)
    ]


def _check_the_end(
    sandbox: RealSandbox, run_id: str, attempts: Sequence[Attempt], state: JobState
) -> None:
    """Nothing of any attempt lives, and the registry tells the same as the folder."""
    tags = {tag for attempt in attempts for tag in (attempt.tag, attempt.launcher)}
    wait_for("nothing to be alive", lambda: not any(map(tree.tagged, tags)))
    with sandbox.registry() as registry:
        assert registry.get_run(run_id).reason == state.reason
        rows = registry.attempts(JobKey(run_id))
    assert [(row.number, row.state) for row in rows] == [(a.number, a.state) for a in attempts]
