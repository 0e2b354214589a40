"""Which values of a frozen config may still change: what a checkpoint is must not. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestra.config.compose import Composed
from orchestra.config.flags import SET
from orchestra.config.problems import ConfigErrors, Problem

#: A key stands for all below it. What is in none of these decides what the weights, the scores and
#: the order of batches of a checkpoint mean.
RESUME = (
    "batch.eval_seconds",
    "checkpoint.every",
    "checkpoint.export_best",
    "checkpoint.keep_best",
    "checkpoint.keep_every",
    "checkpoint.keep_last",
    "data.manifests",
    "data.prepare",
    "data.root",
    "data.test",
    "data.workers",
    "launch.backoff_s",
    "launch.device",
    "launch.gpu_ids",
    "launch.grace_s",
    "launch.long_deadline_s",
    "launch.max_restarts",
    "launch.nproc",
    "launch.oom_split",
    "launch.step_deadline_s",
    "optim.betas",
    "optim.clip_norm",
    "optim.eps",
    "optim.freeze",
    "optim.lr",
    "optim.momentum",
    "optim.weight_decay",
    "regularise",
    "schedule",
    "train",
    "upstream.lr",
)
BEFORE_A_CHECKPOINT = (*RESUME, "batch", "launch.threads")
EVALUATE = ("batch.eval_seconds", "data", "launch", "train.deterministic", "train.precision")


def refused(changed: Iterable[str], allowed: Collection[str]) -> list[str]:
    """Those of the dotted keys `changed` that are not, and don't lie below, one of `allowed`."""
    below = tuple(f"{key}." for key in allowed)
    return [key for key in changed if key not in allowed and not key.startswith(below)]


def check_resume(composed: Composed, step: int) -> None:
    """ConfigErrors, all at once, if the run can't go on from `step` with what `--set` changed.

    `step` 0: there is no checkpoint, so that the batch may change too.
    """
    changed = _set_keys(composed)
    text = "a run that is resumed keeps it; for another value, `orchestra run` a new one"
    problems = [
        Problem(key, SET, text) for key in refused(changed, RESUME if step else BEFORE_A_CHECKPOINT)
    ]
    max_steps = composed.config.train.max_steps
    if "train.max_steps" in changed and max_steps is not None and max_steps <= step:
        text = f"is {max_steps}, but the run goes on from step {step}: give more, or --from STEP"
        problems.append(Problem("train.max_steps", SET, text))
    if problems:
        raise ConfigErrors(problems)


def check_evaluation(composed: Composed) -> None:
    """ConfigErrors, all at once, if `--set` changed what has no part in an evaluation."""
    text = "an evaluation keeps it: the checkpoint was trained with it"
    problems = [Problem(key, SET, text) for key in refused(_set_keys(composed), EVALUATE)]
    if problems:
        raise ConfigErrors(problems)


def _set_keys(composed: Composed) -> list[str]:
    """What was changed by hand; what follows from it (V, a new kind's defaults) is not named."""
    return [key for key in composed.changed if composed.origins.get(key) == SET]
