"""The frozen config of a run, found by any reference to the run."""

from __future__ import annotations

from orchestra.config.compose import Composed, override
from orchestra.registry.store import open_registry
from orchestra.supervise.launch import code_folder
from orchestra.workspace import Workspace


def frozen_config(workspace: Workspace, reference: str, sets: tuple[str, ...] = ()) -> Composed:
    """The config that the run trains with, changed by `sets`.

    Raises:
        NotFoundError: no such run.
        UsageError, OrchestraError: its folder is damaged.
    """
    with open_registry(workspace.runs) as registry:
        job = workspace.runs.run(registry.resolve(reference)).job
    code = code_folder(workspace.runs, job)
    return override(job.config, code, sets, workspace=workspace.root)
