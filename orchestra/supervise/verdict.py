"""What an attempt's end means for its job: why it failed and what is done, or how it stopped.

Reads the job's folder; changes nothing (the supervisor does).
"""

from __future__ import annotations

import os
from dataclasses import replace

from orchestra.supervise.attempt import Outcome
from orchestra.supervise.evidence import failure_before, gather
from orchestra.supervise.failure import Cause, Failure, classify
from orchestra.supervise.hang import Silence
from orchestra.supervise.launch import Settings
from orchestra.supervise.policy import Decision, History, Splitting, decide, foresee
from orchestra.supervise.tail import newest_checkpoint
from orchestra.wire.folders import AttemptFolder, Job
from orchestra.wire.job import Attempt, Result, StopFlag


def judge(
    job: Job, folder: AttemptFolder, attempt: Attempt, outcome: Outcome, settings: Settings
) -> tuple[Failure, Decision]:
    """Why the attempt failed, and what is to be done about it."""
    trains = job.kind == "train"
    # An evaluation takes no steps: its beats tell that of the checkpoint.
    beats = outcome.beats if trains else tuple(replace(beat, step=0) for beat in outcome.beats)
    evidence = gather(
        folder,
        outcome.agent,
        outcome.first_dead,
        outcome.step,
        beats,
        first_step=attempt.first_step,
        stall=outcome.stall,
    )
    failure = classify(evidence)
    decision = decide(
        failure,
        _history(job, attempt),
        settings.budget,
        Splitting(attempt.split, allowed=settings.oom_split, possible=trains),
        jitter=0.5 + os.urandom(1)[0] / 256,
    )
    return failure, decision


def after_silence(job: Job, attempt: Attempt, silence: Silence, settings: Settings) -> str:
    """What will be done if the rank stays silent."""
    step = silence.step if job.kind == "train" else 0
    hang = Failure(Cause.HANG, "", said=Cause.HANG.value, step=step)
    return foresee(hang, _history(job, attempt), settings.budget)


def _history(job: Job, attempt: Attempt) -> History:
    return History(
        failures_before=attempt.failures_before,
        first_checkpoint=attempt.first_step,
        newest_checkpoint=start_of_next(job),
        before=failure_before(job, attempt),
    )


def start_of_next(job: Job) -> int:
    """The step that the next attempt starts from; an evaluation always does from its start."""
    return newest_checkpoint(job.run) if job.kind == "train" else 0


def why_stopped(job: Job, flag: StopFlag | None, result: Result | None) -> str:
    """A sentence on a job that was asked to end; `result`: what its ranks said last."""
    preempted = flag is not None and flag.preempted
    reason = "preempted by a signal" if preempted else "stopped on request"
    if job.kind != "train":
        return reason
    if result is not None:
        return f"{reason} at step {result.step}"
    if step := start_of_next(job):
        return f"{reason} without a new save; the newest checkpoint is step {step}"
    return f"{reason} before the first checkpoint"
