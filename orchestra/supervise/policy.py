"""When a failed attempt is followed by another one. Pure: no clock, no files, no processes.

`RULES` is the policy at a glance; `decide` applies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestra.supervise.failure import Cause, Failure

_LONGEST_BACKOFF_S = 60.0
_LEAST_JITTER, _MOST_JITTER = 0.5, 1.5
_LARGEST_SPLIT = 8
_SAMPLES_NAMED = 8
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Rule:
    """Whether another attempt may end otherwise; if not, what must be done first."""

    retry: bool
    remedy: str = ""


RULES = {
    Cause.CRASH: Rule(retry=True),
    Cause.SIGNAL: Rule(retry=True),
    Cause.HANG: Rule(retry=True),
    Cause.RENDEZVOUS: Rule(retry=True),
    Cause.PREEMPTED: Rule(retry=True),
    Cause.UNKNOWN: Rule(retry=True),
    Cause.OUT_OF_MEMORY: Rule(retry=True, remedy="lower batch.max_micro_seconds"),  # see _split
    Cause.NAN: Rule(retry=False, remedy="lower optim.lr or correct the data"),
    Cause.IMPORT: Rule(retry=False, remedy="correct the code"),
    Cause.CONFIG: Rule(retry=False, remedy="correct the config"),
    Cause.DATA: Rule(retry=False, remedy="correct the data (`orchestra data check`)"),
    Cause.DISK_FULL: Rule(retry=False, remedy="free some space, then `orchestra resume`"),
}


@dataclass(frozen=True)
class Budget:
    """`launch.max_restarts` and `launch.backoff_s`."""

    max_restarts: int
    backoff_s: float


@dataclass(frozen=True)
class Splitting:
    """Into how many parts each micro-batch may be cut when memory runs out."""

    parts: int = 1
    """As of the attempt that failed."""
    allowed: bool = False
    """`launch.oom_split`"""
    possible: bool = True
    """False for an evaluation, which has no micro-batches of a step to cut."""


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
    """What to do: `sentence` says why and what, `action` only what."""

    restart: bool
    delay_s: float
    sentence: str
    action: str
    split: int  # parts of each micro-batch in the next attempt
    failures: int  # failed attempts since the last checkpoint progress, this one counted

    def to_json(self) -> dict[str, Any]:
        """What attempt.json keeps of it, beside the failure."""
        return {"action": self.action, "next_split": self.split}


def decide(
    failure: Failure,
    history: History,
    budget: Budget,
    splitting: Splitting,
    *,
    jitter: float,
) -> Decision:
    """Restart with back-off unless the failure won't go away or the budget is spent.

    Args:
        jitter: drawn from [0.5, 1.5), so that jobs that died together don't start together.
    """
    split = _split(failure, splitting)
    refusal = (
        _never(failure, splitting, split)
        or _same_again(failure, history.before)
        or _budget_spent(history, budget)
    )
    if refusal:
        sentence = f"{failure.sentence}; {refusal}"
        return Decision(False, 0.0, sentence, refusal, splitting.parts, history.failures)
    delay_s = _delay_s(history.failures, budget.backoff_s, jitter)
    when = f"after {delay_s:.2g} s" if delay_s else "at once"
    action = f"{_restart(history, budget)} {when}"
    if split != splitting.parts:
        action += f" with micro-batches cut in {split}, the run is no longer exact"
    elif failure.cause == Cause.OUT_OF_MEMORY:
        action += f"; if it comes again, {_remedy(failure, splitting)}"
    sentence = f"{failure.sentence}; {action}"
    return Decision(True, delay_s, sentence, action, split, history.failures)


def foresee(failure: Failure, history: History, budget: Budget) -> str:
    """What `decide` will say to do about a hang that is not one yet, in short."""
    if failure.is_like(history.before):
        return "end: it failed the same way at the same step before"
    if _budget_spent(history, budget):
        return f"end: no restart is left (launch.max_restarts = {budget.max_restarts})"
    return _restart(history, budget)


def _restart(history: History, budget: Budget) -> str:
    start = f"step {history.newest_checkpoint}" if history.newest_checkpoint else "the beginning"
    return f"restart {history.failures} of {budget.max_restarts} from {start}"


def _split(failure: Failure, splitting: Splitting) -> int:
    """Parts for the next attempt: twice as many after running out of memory, where allowed."""
    helps = failure.cause == Cause.OUT_OF_MEMORY and not failure.one_utterance
    may = splitting.allowed and splitting.possible and splitting.parts < _LARGEST_SPLIT
    return splitting.parts * 2 if helps and may else splitting.parts


def _never(failure: Failure, splitting: Splitting, split: int) -> str:
    """Why no attempt of this code, config and data would end otherwise; empty if one may."""
    same_plan = split == splitting.parts and (failure.before_steps or failure.one_utterance)
    hopeless = failure.cause == Cause.OUT_OF_MEMORY and same_plan
    if RULES[failure.cause].retry and not hopeless:
        return ""
    remedy = _remedy(failure, splitting)
    return f"not retried: {remedy}" if remedy else "not retried"


def _remedy(failure: Failure, splitting: Splitting) -> str:
    """What a person must do; empty where the failure's own sentence tells it."""
    rule = RULES[failure.cause]
    if failure.cause != Cause.OUT_OF_MEMORY:
        return "" if failure.advised else rule.remedy
    if failure.one_utterance:
        return "" if failure.advised else "cut that utterance or leave it out of the split"
    unused = splitting.possible and not splitting.allowed
    return f"{rule.remedy} or allow launch.oom_split" if unused else rule.remedy


def _same_again(failure: Failure, before: Failure | None) -> str:
    """What is to be thought of the same failure at the same step; empty if it is another one."""
    if not failure.is_like(before):
        return ""
    twice = "failed the same way twice at the same step: a deterministic bug or a bad sample"
    if not failure.samples:
        return twice
    named = ", ".join(failure.samples[:_SAMPLES_NAMED])
    more = len(failure.samples) - _SAMPLES_NAMED
    return f"{twice}; samples at work: {named}{f' and {more} more' if more > 0 else ''}"


def _budget_spent(history: History, budget: Budget) -> str:
    if history.failures <= budget.max_restarts:
        return ""
    if not budget.max_restarts:
        return "no restart is allowed (launch.max_restarts = 0)"
    count = history.failures
    attempts = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    return f"gave up after {attempts} attempts without a new checkpoint"


def _delay_s(failures: int, backoff_s: float, jitter: float) -> float:
    """None after the first failure, then `backoff_s` and each time twice as long, up to a bound."""
    assert _LEAST_JITTER <= jitter < _MOST_JITTER
    if failures == 1:
        return 0.0
    # A long row of failures must not overflow; whatever the jitter, the bound holds.
    doubled = backoff_s * 2.0 ** min(failures - 2, 64)
    return min(_LONGEST_BACKOFF_S / _MOST_JITTER, doubled) * jitter
