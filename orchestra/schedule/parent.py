"""Parent runs: runs submitted together, one for each value of some keys, such as folds.

A parent has no process and no folder. It is its members: its state and its scores follow from
theirs, so that nothing can disagree. How one is submitted stands in submit_parent.py.
"""

from __future__ import annotations

import re
import statistics
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestra.formats import number
from orchestra.registry.store import open_registry
from orchestra.schedule.listing import any_runs, list_row
from orchestra.schedule.queue import places
from orchestra.schedule.stop import stop_run
from orchestra.schedule.submission import points, said_of
from orchestra.wire.errors import ConflictError, NotFoundError
from orchestra.wire.job import EvaluationSpec
from orchestra.wire.states import ENDED, LIVE, RunState

if TYPE_CHECKING:
    from orchestra.registry.rows import EvaluationRow, JobKey, RunRow
    from orchestra.registry.store import Registry
    from orchestra.wire.folders import RunFolder
    from orchestra.workspace import Workspace

#: Which member's state is the parent's, where they differ; one at work comes before all of these.
_FOREMOST = (
    RunState.FAILED,
    RunState.STOPPED,
    RunState.PREEMPTED,
    RunState.QUEUED,
    RunState.COMPLETED,
)

#: A member may be given another name.
_MEMBER_NAME = re.compile(r"(.+)\.\d+")


@dataclass(frozen=True)
class Parent:
    """A parent run as it is now."""

    id: str
    members: tuple[RunRow, ...]
    """At least one, in the order in which they were submitted."""

    @property
    def name(self) -> str:
        """What its members' names have before the dot and the number; its id if none has one."""
        found = (_MEMBER_NAME.fullmatch(member.name) for member in self.members)
        return next((match[1] for match in found if match), self.id)

    @property
    def state(self) -> RunState:
        return state_of([member.state for member in self.members])

    @property
    def counts(self) -> str:
        """`3 completed, 1 failed`, in the order of the members."""
        counts = Counter(member.state.value for member in self.members)
        return ", ".join(f"{count} {state}" for state, count in counts.items())


@dataclass(frozen=True)
class Score:
    """A metric of one test split over the members."""

    split: str
    metric: str
    values: tuple[float | None, ...]
    """By member; None where it has not been evaluated."""

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.known) if self.known else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1); None for fewer than two values."""
        return statistics.stdev(self.known) if len(self.known) > 1 else None


def state_of(states: Collection[RunState]) -> RunState:
    """Running while a member is at work; else failed if one failed, and so on."""
    if any(state in LIVE for state in states):
        return RunState.RUNNING
    return next(state for state in _FOREMOST if state in states)


def find_parent(workspace: Workspace, reference: str) -> Parent | None:
    """The parent meant by its id, its name or a beginning of one; None if a run may be meant.

    Raises:
        NotFoundError: it means several parents.
    """
    if not any_runs(workspace):
        return None
    with open_registry(workspace.runs) as registry:
        return _find(registry, reference)


def _find(registry: Registry, reference: str) -> Parent | None:
    if not reference or registry.is_held(reference):
        return None
    found = [
        Parent(each, tuple(registry.members(each))) for each in registry.parents_like(reference)
    ]
    exact = [parent for parent in found if reference in (parent.id, parent.name)]
    # The whole name of a member with something behind it, or a beginning that tells members apart.
    found = exact or [
        p for p in found if p.name.startswith(reference) or p.id.startswith(reference)
    ]
    if not found:
        return None
    if len(found) > 1:
        some = ", ".join(f"{parent.id} ({parent.name})" for parent in found)
        raise NotFoundError(f"{reference!r} means several parent runs: {some}")
    others = [row for row in registry.list_runs() if _begins(row, reference)]
    alone = exact or all(row.parent == found[0].id for row in others)
    return found[0] if alone else None


def _begins(row: RunRow, reference: str) -> bool:
    return row.id.startswith(reference) or row.name.startswith(reference)


def unfinished(parent: Parent) -> list[str]:
    """Ids of the members that ended without being completed (ConflictError: there are none)."""
    found = [row.id for row in parent.members if row.state in ENDED - {RunState.COMPLETED}]
    if not found:
        raise ConflictError(
            f"no member of parent run {parent.id} is to be resumed: it is {parent.state.value}"
        )
    return found


def stop_members(workspace: Workspace, parent: Parent, *, now: bool) -> list[JobKey]:
    """Ask for the end of all members that have not ended, the last ones first.

    Raises:
        ConflictError: there are none.
    """
    left = [member for member in parent.members if member.state not in ENDED]
    if not left:
        raise ConflictError(f"parent run {parent.id} has ended already: it is {parent.state.value}")
    # On the CPU the next one's turn comes when one ends.
    return [key for row in reversed(left) for key in stop_run(workspace, row.id, now=now)]


def scores_of(workspace: Workspace, registry: Registry, parent: Parent) -> list[Score]:
    """Every metric of the members' own final evaluations, a test split at a time.

    What `orchestra eval` was asked for besides, of any checkpoint, counts for nothing.
    """
    results = [
        _results(_own(workspace.runs.run(member.id), registry.evaluations(member.id)))
        for member in parent.members
    ]
    found = []
    for place in range(max((len(result) for result in results), default=0)):
        there = [result[place] if place < len(result) else None for result in results]
        names = dict.fromkeys(row.split for row in there if row)
        metrics = dict.fromkeys(metric for row in there if row for metric in row.metrics)
        found += [
            Score(
                ", ".join(names),
                metric,
                tuple(row.metrics.get(metric) if row else None for row in there),
            )
            for metric in metrics
        ]
    return found


def _own(run: RunFolder, evaluations: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """Those that the run's ranks did after their last step, as far as their folders are there."""
    folders = [(row, run.evaluation(row.number)) for row in evaluations]
    return [
        row
        for row, folder in folders
        if row.state is RunState.COMPLETED
        and folder.spec.is_file()
        and EvaluationSpec.read(folder).origin == "run"
    ]


def _results(evaluations: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """The newest result of each split, in the order in which the splits came first."""
    newest: dict[str, EvaluationRow] = {}
    for row in evaluations:
        newest[row.split] = row
    return list(newest.values())


def brief_of(workspace: Workspace, registry: Registry, parent: Parent) -> str:
    """`accuracy 82.5 +- 4.7 (4 of 5)`: mean and spread of the first metric on the first test split,
    and of how many members; empty before there is one."""
    scores = scores_of(workspace, registry, parent)
    if not scores:
        return ""
    first, count = scores[0], len(parent.members) + len(removed_members(workspace, parent))
    spread = "" if first.deviation is None else f" +- {number(first.deviation)}"
    return f"{first.metric} {number(first.mean)}{spread} ({len(first.known)} of {count})"


def removed_members(workspace: Workspace, parent: Parent) -> list[str]:
    """What was submitted and is gone, such as `task.fold=2`: a mean lacks it."""
    first = parent.members[0]
    try:
        config = tomllib.loads(workspace.runs.run(first.id).job.config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []  # it is broken: whoever looks at that member is told
    # A key that --set gave made no members.
    each = {key: of for key, of in config.get("each", {}).items() if f"{key}=" in first.member}
    there = {member.member for member in parent.members}
    return [said for said in map(said_of, points(each, ())) if said not in there]


def parent_document(workspace: Workspace, registry: Registry, parent: Parent) -> dict[str, Any]:
    """The parent as one JSON document; `waits` of a member says for what, if it is queued."""
    queued = any(member.state is RunState.QUEUED for member in parent.members)
    found = places(workspace) if queued else []
    waits = {place.key.run_id: place.reason for place in found if place.key.evaluation is None}
    return {
        "id": parent.id,
        "name": parent.name,
        "state": parent.state.value,
        "members": [
            {**list_row(member), "waits": waits.get(member.id)} for member in parent.members
        ],
        "removed": removed_members(workspace, parent),
        "scores": [_score(score) for score in scores_of(workspace, registry, parent)],
    }


def _score(score: Score) -> Mapping[str, Any]:
    return {
        "split": score.split,
        "metric": score.metric,
        "values": list(score.values),
        "mean": score.mean,
        "deviation": score.deviation,
    }
