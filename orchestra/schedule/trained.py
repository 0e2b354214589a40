"""What a trained model needs to be used: config, weights, code. Of a run, or of an export's folder.

Reads and starts nothing of it: programs of the training plane do, under the run's own code.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra.gpu.leases import Leases
from orchestra.schedule.checkpoints import find
from orchestra.schedule.listing import find_run
from orchestra.supervise.launch import code_environment, code_folder, read_settings
from orchestra.wire import lifeline, weights
from orchestra.wire.builtin import builtin_folder
from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.wire.folders import RunFolder
from orchestra.workspace import Workspace

ANY = "any"
"""Whichever GPU is free."""

_CONFIG, _LEARNT = "config.toml", "learnt.json"


@dataclass(frozen=True)
class Trained:
    """A run, or an export of one."""

    name: str
    """Id of the run, or name of the folder."""
    config: Path
    learnt: Path
    """What its task learnt; there may be no such file."""
    code: Path
    run: RunFolder | None
    """None: it is an export, to be used with the code that is installed."""
    folder: Path
    workspace: Path
    """Of an export used outside of any: its own folder."""

    def weights(self, checkpoint: str | None) -> Path:
        """The folder with the weights of a checkpoint (see schedule.checkpoints.find); default: the
        best.

        Raises:
            NotFoundError: there is no such checkpoint.
            UsageError: an export has only one.
        """
        if self.run is not None:
            return find(self.run, checkpoint or "best")
        if checkpoint is not None:
            raise UsageError(f"{self.folder} is an export: it has no --checkpoint to choose from")
        return self.folder


@dataclass(frozen=True)
class Program:
    """A program of the training plane about to start."""

    command: list[str]
    environment: dict[str, str]


def find_trained(workspace: Workspace | None, wanted: str) -> Trained:
    """The run that `wanted` names, or the export in the folder of that name.

    What has a slash in it is a folder. None as the workspace: there are only exports, whose task
    is a built-in one.

    Raises:
        NotFoundError: neither of them is there.
        OrchestraError: the run's folder is damaged.
    """
    folder = Path(wanted).expanduser().absolute()
    if "/" in wanted or wanted in (".", "..") or workspace is None:
        return _export(workspace, folder)
    try:
        run = workspace.runs.run(find_run(workspace, wanted))
    except NotFoundError:
        if weights.is_export(folder):
            return _export(workspace, folder)
        raise
    code = code_folder(workspace.runs, run.job)
    return Trained(run.id, run.job.config, run.learnt, code, run, run.path, workspace.root)


@contextlib.contextmanager
def leased(trained: Trained, gpu: str | None) -> Iterator[tuple[str, ...]]:
    """The UUID of the GPU with that index or UUID, or of any free one, held in the block.

    None is the CPU, which nobody leases.

    Raises:
        ConflictError: it is not free, or none is.
        NotFoundError: there is no such GPU.
    """
    if gpu is None:
        yield ()
        return
    ids = () if gpu == ANY else (gpu,)
    with Leases() as leases:
        devices = leases.acquire(1, ids, f"predict {trained.name}", trained.workspace)
        yield tuple(device.uuid for device in devices)


def program_of(
    trained: Trained,
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    devices: tuple[str, ...] = (),
) -> Program:
    """`module` with that config, under that code.

    Args:
        devices: UUIDs of the GPUs that it may see.

    Raises:
        UsageError: the run's code is from before there was such a program.
    """
    if trained.run is not None:
        source = (trained.code / module.replace(".", "/")).with_suffix(".py")
        if not source.is_file():
            verb = module.rpartition(".")[2]
            raise UsageError(
                f"the code of run {trained.name} is of an older orchestra, which has no `{verb}`; "
                f"`orchestra export` it, and {verb} with the export's folder"
            )
    threads = read_settings(trained.config).threads
    variables = code_environment(trained.code, trained.workspace, threads=threads, devices=devices)
    if trained.run is None:  # the installed orchestra runs, where Python has it from
        variables = {k: v for k, v in variables.items() if not k.startswith("PYTHON")}
    child = {**environment, **variables}
    lifeline.announce(child)
    command = [sys.executable, "-P", "-m", module, "--config", os.fspath(trained.config)]
    return Program([*command, *arguments], child)


def _export(workspace: Workspace | None, folder: Path) -> Trained:
    if not weights.is_export(folder):
        what = "is not the folder of an export" if folder.is_dir() else "is no folder"
        hint = "" if workspace else "; here is no workspace either, which could have runs"
        raise NotFoundError(f"{folder} {what} (`orchestra export RUN DIR` writes one){hint}")
    code = workspace.root if workspace else builtin_folder()
    root = workspace.root if workspace else folder
    return Trained(folder.name, folder / _CONFIG, folder / _LEARNT, code, None, folder, root)
