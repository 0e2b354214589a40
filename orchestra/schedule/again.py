"""`run --name X --or-resume`: what the same command means when it is given again.

For cron and batch scripts: there is one run of that name, however often and by however many the
command is given, and it goes on until it is completed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from orchestra.registry.rows import JobKey, RunRow
from orchestra.registry.store import open_registry
from orchestra.schedule.listing import any_runs
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.files import read_json
from orchestra.wire.states import ENDED, RunState
from orchestra.workspace import Workspace

# What says how to wait or where, or what to call it, not what to train.
_FLAGS = {"--detach", "--quiet", "--or-resume", "--no-queue"}
_OPTIONS = {"--priority", "--tag", "--note", "--workspace", "--runs-dir"}
_SHORT = re.compile("-[dq]+")


@dataclass(frozen=True)
class Again:
    """The run of that name. `notes` are sentences to say aloud."""

    key: JobKey
    state: RunState
    notes: tuple[str, ...]


def again(
    workspace: Workspace, name: str, argv: Sequence[str], *, cpu_command: str
) -> Again | None:
    """Look at the run of that name, and resume it if it ended early; None if there is none.

    `state` of the result: completed, or whatever it is or was when it is to be followed.

    Raises:
        ConflictError: another command made it, or it can't be resumed.
        OrchestraError: as `resume`.
    """
    row = _held(workspace, name)
    if row is None:
        return None
    _require_same_command(workspace, row, argv)
    key = JobKey(row.id)
    if row.state is RunState.COMPLETED:
        return Again(key, row.state, (f"run {row.id} ({name}) is completed already",))
    if row.state not in ENDED:
        return Again(key, row.state, (f"run {row.id} ({name}) is {row.state} already",))
    from orchestra.schedule.resume import resume

    try:
        resumed = resume(workspace, row.id, start_from=None, sets=(), cpu_command=cpu_command)
    except ConflictError:
        now = _held(workspace, name)
        if now is None or now.state in ENDED:
            raise
        return Again(key, now.state, (f"run {row.id} ({name}) was just resumed by another",))
    said = f"resuming run {row.id} ({name}), which {_was(row.state)}"
    return Again(key, row.state, (said, *resumed.notes))


def _was(state: RunState) -> str:
    return state.value if state is RunState.FAILED else f"was {state}"


def _held(workspace: Workspace, name: str) -> RunRow | None:
    if not any_runs(workspace):
        return None
    with open_registry(workspace.runs) as registry:
        return registry.run_named(name)


def _require_same_command(workspace: Workspace, row: RunRow, argv: Sequence[str]) -> None:
    try:
        recorded = read_json(workspace.runs.run(row.id).identity).get("argv")
    except (FileNotFoundError, OrchestraError):
        return  # a damaged folder: its supervisor tells
    if recorded and meaning(recorded) != meaning(argv):
        raise ConflictError(
            f"run {row.id} holds the name {row.name!r}, and another command made it: "
            f"`{shlex.join(recorded)}`; choose another --name, or `orchestra resume {row.id}`"
        )


def meaning(argv: Sequence[str]) -> list[str]:
    """The words of a command line that say what is trained."""
    kept: list[str] = []
    words = iter(argv[1:])
    for word in words:
        option = word.partition("=")[0]
        if word in _OPTIONS:
            list(islice(words, 1))
        elif option not in _OPTIONS and word not in _FLAGS and not _SHORT.fullmatch(word):
            kept.append(word)
    return kept
