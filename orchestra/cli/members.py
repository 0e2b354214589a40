"""A parent run on the command line: its members started, followed, printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from orchestra.cli.attach import Attached
from orchestra.cli.columns import cells
from orchestra.cli.output import emit, emit_json, emit_raw, paint_state, say, table
from orchestra.cli.result import bold
from orchestra.formats import number
from orchestra.wire.errors import UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.states import RunState
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestra.cli.interrupts import Interrupts
    from orchestra.registry.rows import JobKey, RunRow
    from orchestra.schedule.parent import Parent
    from orchestra.schedule.submit_parent import SubmittedParent
    from orchestra.workspace import Workspace


_SCORES = ("best", "test")


def refuse_for_members(count: int, *, or_resume: bool, no_queue: bool) -> None:
    """UsageError for what is asked of one run and can't be promised for several."""
    for given, option in ((or_resume, "--or-resume"), (no_queue, "--no-queue")):
        if given:
            raise UsageError(
                f"{option} is for one run, and the config's `each` makes {count} members: give one "
                "of its values with --set"
            )


def launch_parent(
    workspace: Workspace,
    parent: SubmittedParent,
    interrupts: Interrupts,
    *,
    detach: bool,
    quiet: bool,
) -> None:
    """Tell what was submitted, then start and follow it (see `launch_members`)."""
    if not quiet:
        for note in dict.fromkeys(note for member in parent.members for note in member.notes):
            say(f"note: {note}")
        names = ", ".join(f"{member.run_id} ({member.name})" for member in parent.members)
        say(f"parent run {parent.id} ({parent.name}) of {len(parent.members)}: {names}")
    keys = [member.key for member in parent.members]
    launch_members(workspace, parent.id, keys, interrupts, detach=detach, quiet=quiet)


def launch_members(
    workspace: Workspace,
    parent_id: str,
    keys: Sequence[JobKey],
    interrupts: Interrupts,
    *,
    detach: bool,
    quiet: bool,
) -> None:
    """Start those whose turn it is; detached, print the parent's id; else follow all to the end.

    A member that is stopped from here stops those that are left.
    """
    from orchestra.schedule.begin import begin

    for key in keys:
        place = begin(workspace, key)
        if place is not None and not quiet:
            say(f"{key}: {place}")
    if detach or quiet:
        emit(parent_id)
    if detach:
        if not quiet:
            say(f"detached; `orchestra wait {parent_id}` waits for all of them")
        return
    codes = _follow(workspace, keys, interrupts, quiet=quiet)
    if codes is None:
        return
    if not quiet:
        print_parent(workspace, parent_id)
    raise typer.Exit(max(codes))


def _follow(
    workspace: Workspace, keys: Sequence[JobKey], interrupts: Interrupts, *, quiet: bool
) -> list[ExitCode] | None:
    """Each member's exit code, or None if the user detached."""
    codes: list[ExitCode] = []
    for place, key in enumerate(keys, 1):
        if not quiet:
            say(f"member {place} of {len(keys)}: {key}")
        attached = Attached(workspace, key, quiet=quiet, rest=keys[place:])
        view = attached.follow(interrupts)
        if view is None:
            return None
        codes.append(attached.exit_code(view))
        if codes[-1] == ExitCode.INTERRUPTED:
            break
        if view.state != RunState.COMPLETED and view.reason:
            say(f"{key}: {view.state.value}: {view.reason}")
    return codes


def print_parent(workspace: Workspace, parent_id: str, *, json: bool = False) -> None:
    """Its state, a line for each member, mean and spread of each metric."""
    from orchestra.registry.store import open_registry
    from orchestra.schedule.parent import Parent, parent_document

    with open_registry(workspace.runs) as registry:
        parent = Parent(parent_id, tuple(registry.members(parent_id)))
        document = parent_document(workspace, registry, parent)
    if json:
        emit_json(document)
        return
    state = paint_state(document["state"])
    count = len(parent.members)
    told = f"{state}: parent run of {count}: {parent.counts}"
    emit_raw(f"{bold(clean(parent.name))}  {parent.id}  {told}")
    if document["removed"]:
        emit(f"  removed: {', '.join(document['removed'])}; what follows is of those that are left")
    table([_member(parent, place, document) for place in range(count)], right=("step", *_SCORES))
    if document["scores"]:
        emit()
        table(
            [_score(score, count + len(document["removed"])) for score in document["scores"]],
            right=("mean", "deviation", "members"),
        )


def print_parents(workspace: Workspace, rows: Sequence[RunRow]) -> None:
    """A line for each parent run of which a member is among the rows."""
    from orchestra.registry.store import open_registry
    from orchestra.schedule.parent import Parent, brief_of

    ids = dict.fromkeys(row.parent for row in rows if row.parent)
    with open_registry(workspace.runs) as registry:
        lines = [
            {
                "parent": parent.id,
                "name": parent.name,
                "state": parent.state.value,
                "members": parent.counts,
                "test": brief_of(workspace, registry, parent),
            }
            for parent in (Parent(each, tuple(registry.members(each))) for each in ids)
        ]
    emit()
    table(lines)


def _member(parent: Parent, place: int, document: dict[str, Any]) -> dict[str, str]:
    """`best` is of validation, as everywhere; `test` the first metric of the first test split."""
    row = parent.members[place]
    test = [
        f"{score['metric']} {number(score['values'][place])}"
        for score in document["scores"][:1]
        if score["values"][place] is not None
    ]
    return {
        "member": row.member,
        **cells(row, ("id", "name", "state", "step", "best"), "", {}),
        "test": "".join(test) or "-",
        "reason": row.reason or document["members"][place]["waits"] or "",
    }


def _score(score: dict[str, Any], count: int) -> dict[str, str]:
    """`count`: of members that were submitted."""
    known = sum(value is not None for value in score["values"])
    return {
        "metric": score["metric"],
        "mean": number(score["mean"]),
        "deviation": number(score["deviation"]),
        "members": f"{known} of {count}",
        "split": score["split"],
    }
