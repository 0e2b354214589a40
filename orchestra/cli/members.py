"""A parent run on the command line: its members started, followed, printed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from orchestra.cli.attach import Attached
from orchestra.cli.output import emit, emit_json, emit_raw, paint_state, say, table
from orchestra.cli.result import bold
from orchestra.formats import number
from orchestra.wire.errors import ConflictError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.states import RunState
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestra.cli.interrupts import Interrupts
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.parent import Parent
    from orchestra.schedule.submit_parent import SubmittedParent
    from orchestra.workspace import Workspace


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
        attached = Attached(workspace, key, quiet=quiet)
        view = attached.follow(interrupts)
        if view is None:
            return None
        codes.append(attached.exit_code(view))
        if codes[-1] == ExitCode.INTERRUPTED:
            _stop(workspace, keys[place:])
            break
        if view.state != RunState.COMPLETED and view.reason:
            say(f"{key}: {view.state.value}: {view.reason}")
            if _waits_for_it(workspace, keys[place:], key):
                say(f"the members after it wait: `orchestra resume {key.run_id}`")
                break
    return codes


def _stop(workspace: Workspace, keys: Sequence[JobKey]) -> None:
    from orchestra.schedule.stop import stop

    for key in keys:
        with suppress(ConflictError):  # it has ended
            stop(workspace, key, now=False)


def _waits_for_it(workspace: Workspace, left: Sequence[JobKey], key: JobKey) -> bool:
    from orchestra.registry.store import open_registry

    with open_registry(workspace.runs) as registry:
        waiting = {row.key for row in registry.queued() if row.demand.after == key.run_id}
    return any(each in waiting for each in left)


def print_parent(workspace: Workspace, parent_id: str, *, json: bool = False) -> None:
    """Its state, a line for each member, mean and spread of each metric."""
    from orchestra.registry.store import open_registry
    from orchestra.schedule.parent import Parent, parent_document

    with open_registry(workspace.runs) as registry:
        parent = Parent(parent_id, tuple(registry.members(parent_id)))
        document = parent_document(registry, parent)
    if json:
        emit_json(document)
        return
    state = paint_state(document["state"])
    count = len(parent.members)
    emit_raw(f"{bold(clean(parent.name))}  {parent.id}  {state}: parent run of {count}")
    table([_member(parent, place, document) for place in range(count)], right=("step", "score"))
    if document["scores"]:
        emit()
        table(
            [_score(score) for score in document["scores"]],
            right=("mean", "deviation", "members"),
        )


def _member(parent: Parent, place: int, document: dict[str, Any]) -> dict[str, str]:
    row = parent.members[place]
    return {
        "member": row.member,
        "id": row.id,
        "name": row.name,
        "state": row.state.value,
        "step": str(row.step),
        "score": number(row.best_score),
    }


def _score(score: dict[str, Any]) -> dict[str, str]:
    known = sum(value is not None for value in score["values"])
    return {
        "metric": score["metric"],
        "mean": number(score["mean"]),
        "deviation": number(score["deviation"]),
        "members": f"{known} of {len(score['values'])}",
        "split": score["split"],
    }
