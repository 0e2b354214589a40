"""When a failed attempt is followed by another one. Pure: no clock, no files, no processes."""

from __future__ import annotations

from dataclasses import dataclass

from orchestra.supervise.failure import Failure

_LONGEST_BACKOFF_S = 60.0


@dataclass(frozen=True)
class Budget:
    """`launch.max_restarts` and `launch.backoff_s`."""

    max_restarts: int
    backoff_s: float


@dataclass(frozen=True)
class History:
    """What matters of the past: failures in a row, and what this attempt saved."""

    failures_before: int  # failed attempts since the last checkpoint progress, this one not counted
    first_checkpoint: int  # newest committed step when this attempt started; 0: none
    newest_checkpoint: int  # and now
    before: Failure | None = None  # of the attempt before

    @property
    def failures(self) -> int:
        """Failures since the last progress, this one counted: the budget refills by progress."""
        progressed = self.newest_checkpoint > self.first_checkpoint
        return (0 if progressed else self.failures_before) + 1


@dataclass(frozen=True)
class Decision:
    """What to do, and the sentence for it."""

    restart: bool
    delay_s: float
    sentence: str


def decide(failure: Failure, history: History, budget: Budget) -> Decision:
    """Restart with back-off unless the failure won't go away or the budget is spent."""
    if not failure.retry:
        remedy = f": {failure.remedy}" if failure.remedy else ""
        return Decision(False, 0.0, f"{failure.sentence}; not retried{remedy}")
    if history.failures > budget.max_restarts:
        tried = "no restart is allowed (launch.max_restarts = 0)"
        if budget.max_restarts:
            tried = f"gave up after {_count(budget.max_restarts)} without a new checkpoint"
        return Decision(False, 0.0, f"{failure.sentence}; {tried}")
    if failure.is_like(history.before):
        return Decision(
            False, 0.0, f"{failure.sentence}; failed the same way twice at the same step"
        )
    delay_s = min(_LONGEST_BACKOFF_S, budget.backoff_s * 2 ** (history.failures - 1))
    start = f"step {history.newest_checkpoint}" if history.newest_checkpoint else "the beginning"
    return Decision(
        True,
        delay_s,
        f"{failure.sentence}; restart {history.failures} of {budget.max_restarts} from {start} "
        f"after {delay_s:g} s",
    )


def _count(restarts: int) -> str:
    return "1 restart" if restarts == 1 else f"{restarts} restarts"
