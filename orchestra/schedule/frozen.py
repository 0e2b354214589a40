"""The frozen config of a run, found by any reference to the run."""

from __future__ import annotations

from orchestra.config.compose import Composed, override
from orchestra.schedule.listing import find_run
from orchestra.supervise.launch import code_folder
from orchestra.workspace import Workspace


def frozen_config(workspace: Workspace, reference: str, sets: tuple[str, ...] = ()) -> Composed:
    """The config that the run trains with, changed by `sets`.

    Raises:
        NotFoundError: no such run.
        UsageError, OrchestraError: its folder is damaged.
    """
    job = workspace.runs.run(find_run(workspace, reference)).job
    code = code_folder(workspace.runs, job)
    return override(job.config, code, sets, workspace=workspace.root)
