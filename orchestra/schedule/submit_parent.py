"""Submitting the members of a parent run: all of them, or none.

On GPUs each waits for its own; on the CPU, where runs start at once, they take turns (see plan.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestra.registry.store import open_registry
from orchestra.schedule.names import check_name, default_names, draw_id
from orchestra.schedule.submission import EACH, Given, Member, Submission
from orchestra.schedule.submit import Plan, Staged, Submitted, staged
from orchestra.wire.errors import ConflictError
from orchestra.workspace import Workspace

if TYPE_CHECKING:
    from orchestra.config.schema import RunConfig, UpstreamConfig


@dataclass(frozen=True)
class SubmittedParent:
    """Members that have their rows."""

    id: str
    name: str
    members: tuple[Submitted, ...]


def submit_members(
    workspace: Workspace, submission: Submission, made: Plan, tell: Callable[[str], None]
) -> SubmittedParent:
    """Queue a member for each of the plan's.

    Args:
        made: the submission's plan as one run.
        tell: see `staged`.

    Raises:
        As `staged`, and ConflictError: a member's name is taken. Nothing is left of any then.
    """
    parent, config = draw_id(), made.composed.config
    name = check_name(submission.name) if submission.name else _free_name(workspace, config, parent)
    _require_free(workspace, name, len(made.members))
    with contextlib.ExitStack() as stack:
        members: list[Staged] = []
        for number, point in enumerate(made.members, 1):
            member = Member(parent, number, point)
            # Drawn once: members differ in what `each` says, and in nothing else.
            given = (Given("seed", config.seed, EACH), *submission.given)
            if not any(each.key.startswith("upstream") for each in point):
                given += found(config.upstream)
            one = replace(submission, given=given, member=member, name=f"{name}.{number}")
            members.append(stack.enter_context(staged(workspace, one, tell)))
        return SubmittedParent(parent, name, tuple(member.commit() for member in members))


def found(upstream: UpstreamConfig) -> tuple[Given, ...]:
    """What its sources were found to mean: of all members the same commit, the same files."""
    from orchestra.config.schema import HuggingFaceConfig  # not before git was started

    if not isinstance(upstream, HuggingFaceConfig):
        return ()
    parts = upstream.parts.model_dump(exclude_none=True) if upstream.parts is not None else None
    pins = {"revision": upstream.revision, "parts": parts}
    return tuple(Given(f"upstream.{key}", value, EACH) for key, value in pins.items() if value)


def _free_name(workspace: Workspace, config: RunConfig, parent: str) -> str:
    with open_registry(workspace.runs) as registry:
        names = default_names(config.task.kind, config.upstream.name, parent)
        return next(name for name in names if not registry.is_held(f"{name}.1"))


def _require_free(workspace: Workspace, name: str, count: int) -> None:
    with open_registry(workspace.runs) as registry:
        taken = [n for n in range(1, count + 1) if registry.is_held(f"{name}.{n}")]
    if taken:
        raise ConflictError(f"there is a run {name}.{taken[0]} already: choose another --name")
