"""The program that exports a checkpoint of a run, under the run's own code. Starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestra.schedule.checkpoints import find
from orchestra.supervise.launch import code_environment, code_folder, read_settings
from orchestra.wire import lifeline
from orchestra.wire.errors import UsageError
from orchestra.wire.weights import require_free
from orchestra.workspace import Workspace

_PROGRAM = "orchestra.train.export"


@dataclass(frozen=True)
class Export:
    """A program of the training plane about to start; its stdout is one JSON document."""

    command: list[str]
    environment: dict[str, str]


def prepare_export(
    workspace: Workspace, run_id: str, *, checkpoint: str, out: Path, environment: Mapping[str, str]
) -> Export:
    """The export of a checkpoint (see schedule.checkpoints.find) to the folder `out`.

    Raises:
        NotFoundError: no such checkpoint.
        ConflictError: `out` is not empty.
        UsageError: the run's code is from before there were exports.
    """
    run = workspace.runs.run(run_id)
    source = find(run, checkpoint)
    require_free(out)
    code = code_folder(workspace.runs, run.job)
    if not (code / _PROGRAM.replace(".", "/")).with_suffix(".py").is_file():
        raise UsageError(f"the code of run {run_id} is of an older orchestra, which can't export")
    child = {
        **environment,
        **code_environment(code, workspace.root, threads=read_settings(run.job.config).threads),
    }
    lifeline.announce(child)
    folders = {"--run": run.path, "--checkpoint": source, "--out": out.absolute()}
    arguments = [word for flag, folder in folders.items() for word in (flag, os.fspath(folder))]
    return Export([sys.executable, "-m", _PROGRAM, *arguments], child)
