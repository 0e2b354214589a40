"""A new run like another one: its frozen config, today's code. For `orchestra clone` and monitor.

What freezing computed stays as it was (seed, micro-batches, thread counts), so that an unchanged
clone trains the same; micro-batches are derived anew where changes make them unfit.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestra.registry.store import open_registry
from orchestra.schedule.submission import Given, Original, Submission
from orchestra.schedule.submit import Submitted, staged
from orchestra.wire import weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.queue import QueueEntry
from orchestra.workspace import Workspace

if TYPE_CHECKING:
    from orchestra.registry.rows import RunRow
    from orchestra.wire.folders import RunFolder


def clone(
    workspace: Workspace, run_id: str, *, name: str | None = None, sets: tuple[str, ...] = ()
) -> Submitted:
    """A queued clone of the run (errors as `clone_submission` and `staged`)."""
    with staged(workspace, clone_submission(workspace, run_id, name=name, sets=sets)) as made:
        return made.commit()


def clone_submission(
    workspace: Workspace,
    run_id: str,
    *,
    upstream: str | None = None,
    given: tuple[Given, ...] = (),
    sets: tuple[str, ...] = (),
    name: str | None = None,
    tags: tuple[str, ...] = (),
    remark: str = "",
    priority: int = 0,
    after: str | None = None,
    argv: Sequence[str] = (),
    cpu_command: str = "orchestra clone RUN --cpu",
) -> Submission:
    """What to submit for a run like this one, changed by flags (`given`) and `sets`.

    Raises:
        NotFoundError: no such run, or its task is no longer in the workspace.
        UsageError: its config can't be read.
    """
    with open_registry(workspace.runs) as registry:
        row = registry.get_run(run_id)
    run = workspace.runs.run(run_id)
    config = _config(run)
    _require_task(workspace, row)
    init_from, waits_for = _promised(run, config)
    return Submission(
        task=row.task,
        upstream=upstream,
        given=(*_initial(run, config), *given, *_no_gpus(given)),
        sets=sets,
        init_from=init_from,
        priority=priority,
        after=after or waits_for,
        name=name,
        tags=tags,
        remark=remark,
        original=Original(run_id, run.job.config),
        argv=tuple(argv),
        cpu_command=cpu_command,
    )


def _config(run: RunFolder) -> dict[str, Any]:
    try:
        return tomllib.loads(run.job.config.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {run.job.config}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise UsageError(f"{run.job.config} is not a frozen config: {error}") from error


def _require_task(workspace: Workspace, row: RunRow) -> None:
    from orchestra.tasks import find_task

    try:
        find_task(row.task, workspace.root)
    except NotFoundError as error:
        raise NotFoundError(
            f"run {row.id} ({row.name}) trains the task {row.task!r}, which is no longer there: "
            f"bring back {workspace.root / 'tasks' / row.task}{_where_it_was(workspace, row)}"
        ) from error


def _where_it_was(workspace: Workspace, row: RunRow) -> str:
    """The task's folder in the run's own code, if it lies there."""
    from orchestra.supervise.launch import code_folder

    try:
        code = code_folder(workspace.runs, workspace.runs.run(row.id).job)
    except OrchestraError:
        return ""
    folder = code / "tasks" / row.task
    return f"; as it was then, it is in {folder}" if folder.is_dir() else ""


def _promised(run: RunFolder, config: dict[str, Any]) -> tuple[str | None, str | None]:
    """What it starts from and waits for, if another run has yet to make its weights."""
    entry = QueueEntry.read(run.job)
    if not entry.init_from or "init" not in config:
        return None, None
    return entry.init_from, entry.after


def _initial(run: RunFolder, config: dict[str, Any]) -> tuple[Given, ...]:
    """Initial weights come from the run's own copy where they are no longer where they were."""
    init = config.get("init", {})
    sha256 = init.get("sha256")
    if not sha256 or _holds(Path(init["folder"]), sha256) or not _holds(run.init, sha256):
        return ()
    return (Given("init.folder", str(run.init), f"clone of {run.id}"),)


def _holds(folder: Path, sha256: str) -> bool:
    try:
        return weights.read_manifest(folder).sha256 == sha256
    except BadCheckpointError:
        return False


def _no_gpus(given: tuple[Given, ...]) -> tuple[Given, ...]:
    """On the CPU the original's GPUs are not wanted."""
    return tuple(
        Given("launch.gpu_ids", [], item.flag)
        for item in given
        if item.key == "launch.device" and item.value == "cpu"
    )
