"""Weights from elsewhere: found by the name of a run or by their folder, verified, copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.registry.store import open_registry
from orchestra.schedule.checkpoints import find
from orchestra.schedule.listing import find_run
from orchestra.schedule.submission import Given
from orchestra.wire import weights
from orchestra.wire.checkpoints import committed
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.folders import RunFolder
from orchestra.wire.states import ENDED

if TYPE_CHECKING:
    from orchestra.config.schema import InitConfig
    from orchestra.workspace import Workspace

FLAG = "--init-from"
_LINKED = ".safetensors"
"""The large ones."""


def find_weights(workspace: Workspace, wanted: str) -> Path:
    """The checkpoint or export folder meant by `RUN`, `RUN:best|last|STEP` or a folder.

    What has a slash in it is a folder, seen from the current one; `RUN` alone is its best.

    Raises:
        NotFoundError: no such run, checkpoint or folder; or a folder that is neither.
    """
    folder = Path(wanted).expanduser().absolute()
    reference, checkpoint = split_run(wanted)
    if reference is not None:
        try:
            run_id = find_run(workspace, reference)
        except NotFoundError as error:
            if not weights.holds_weights(folder):
                text = f"{FLAG} {wanted}: {error}; a folder is written with a slash"
                raise NotFoundError(text) from error
        else:
            return _checkpoint(workspace, run_id, checkpoint or "best")
    if not folder.is_dir():
        raise NotFoundError(f"{FLAG} {wanted}: there is no folder {folder}")
    if not weights.holds_weights(folder):
        hint = f"; give the run: {FLAG} {folder.name}" if _is_run(folder) else ""
        raise NotFoundError(
            f"{FLAG} {wanted}: {folder} is neither a checkpoint nor an export{hint}"
        )
    return folder


def split_run(wanted: str) -> tuple[str | None, str]:
    """The run that `wanted` names, as written, and the checkpoint after the colon, if any.

    None if it can only be a folder: what has a slash in it.
    """
    if "/" in wanted or wanted in (".", ".."):
        return None, ""
    reference, _, checkpoint = wanted.partition(":")
    return reference, checkpoint


def _checkpoint(workspace: Workspace, run_id: str, checkpoint: str) -> Path:
    try:
        return find(workspace.runs.run(run_id), checkpoint)
    except NotFoundError as error:
        with open_registry(workspace.runs) as registry:
            state = registry.get_run(run_id).state
        if state in ENDED:
            raise
        raise NotFoundError(
            f"{error}; the run is {state}: with --after {run_id} this one waits for its end"
        ) from error


def initial_values(workspace: Workspace, wanted: str) -> tuple[Given, ...]:
    """The `init` table, but for its parts, as if given by flags.

    Raises:
        NotFoundError, BadCheckpointError: there is nothing usable.
    """
    folder = find_weights(workspace, wanted)
    sha256 = weights.read_manifest(folder).sha256
    values = {"source": wanted, "folder": str(folder), "sha256": sha256}
    return tuple(Given(f"init.{key}", value, FLAG) for key, value in values.items())


def check_initial(init: InitConfig) -> str:
    """Verify what the table names; a few words on it.

    Raises:
        BadCheckpointError: a file is damaged, or gone.
        UsageError: the folder holds other weights now.
    """
    manifest = weights.verify(init.folder)
    _require_same(init, manifest.sha256)
    parts = f", parts {', '.join(init.parts)}" if init.parts else ""
    return f"{init.source}: step {manifest.step} in {init.folder}{parts}"


def copy_initial(init: InitConfig, to: Path) -> None:
    """Give a run its own copy of weights that `check_initial` found good.

    Of a run's checkpoint the large files are linked, which needs no space: nobody writes into them.
    An export or another folder is the user's: what is done to it must change no run.

    Raises:
        BadCheckpointError, UsageError: they went, or changed, in the meantime.
        OrchestraError: the copy can't be written.
    """
    manifest = weights.read_manifest(init.folder)
    _require_same(init, manifest.sha256)
    root = init.folder.parent
    link = _is_run(root.parent) and init.folder in committed(root)
    for name in (*manifest.files, weights.manifest_name(init.folder)):
        try:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            _copy((init.folder / name).resolve(), to / name, link=link and name.endswith(_LINKED))
        except OSError as error:
            raise OrchestraError(
                f"cannot copy {init.folder / name} to {to}: {error.strerror}"
            ) from error


def _copy(file: Path, to: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(file, to)
        except OSError:
            pass  # another disk, somebody else's file, no links there: a copy serves
        else:
            return
    shutil.copyfile(file, to)


def _require_same(init: InitConfig, sha256: str) -> None:
    if sha256 != init.sha256:
        raise UsageError(
            f"{init.folder} no longer holds the weights that the config means (init.sha256): "
            f"name them again with {FLAG}"
        )


def _is_run(folder: Path) -> bool:
    return RunFolder(folder).identity.is_file()
