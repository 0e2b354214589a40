"""Starting the snapshot process and reading its answer. Never imports git.

`start_snapshot` returns at once, so that the caller composes the config meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import RunsFolder

VERSION = 1
_DEADLINE_S = 600.0


@dataclass(frozen=True)
class Snapshot:
    """The code of a run. Without git, `commit`, `branch`, `dirty` and `repository` are None."""

    tree: str  # id of the workspace's git tree, or files-<hash>
    code: Path  # laid-out folder
    commit: str | None
    branch: str | None
    dirty: bool | None
    patch_bytes: int  # size of the patch against `commit`; 0: none was written
    repository: str | None  # its top folder
    prefix: str  # the workspace seen from there
    warnings: tuple[str, ...]  # sentences to say aloud

    def to_json(self) -> dict[str, Any]:
        """What provenance.json says; `code` is the folder's name, so that runs/ may move."""
        return {"version": VERSION, **asdict(self), "code": self.code.name}


class Pending:
    """A snapshot being taken."""

    def __init__(self, workspace: Path, runs: RunsFolder, run_id: str, patch: Path) -> None:
        self._workspace = workspace
        self._runs = runs
        self._run_id = run_id
        self._process = _start(workspace, ["--runs", runs.path, "--run", run_id, "--patch", patch])

    def result(self) -> Snapshot:
        """Wait for it.

        Raises:
            UsageError: git or the workspace's content does not allow it; says what to do.
            OrchestraError: the disk or the process failed.
        """
        answer = _finish(self._process)
        return Snapshot(
            **{
                **answer,
                "code": self._runs.snapshot(answer["code"]),
                "warnings": tuple(answer["warnings"]),
            }
        )

    def cancel(self) -> None:
        """Leave nothing behind but a laid-out folder, which gc removes or a later run uses.

        A repository that git can't work with has nothing to forget, which is no error here.
        """
        if self._process.poll() is None:
            self._process.terminate()
        self._process.communicate()
        with contextlib.suppress(OrchestraError):
            drop_refs(self._workspace, self._run_id)


def start_snapshot(workspace: Path, runs: Path, run_id: str, patch: Path) -> Pending:
    """Begin to snapshot the code of `workspace` for a run; a patch is written if it is dirty."""
    return Pending(workspace, RunsFolder(runs), run_id, patch)


def drop_refs(workspace: Path, *run_ids: str) -> None:
    """Forget what git keeps for these runs; nothing happens where there is no repository.

    Raises:
        UsageError: git can't change the repository.
    """
    if run_ids:
        _finish(_start(workspace, ["--drop", *run_ids]))


def _start(workspace: Path, arguments: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", "orchestra.provenance.snapshot"]
    return subprocess.Popen(
        [*program, "--workspace", workspace, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # `-m` would import an orchestra/ of the current folder: the running one is meant.
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        start_new_session=True,  # Ctrl-C is for the caller, who cancels
    )


def _finish(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    try:
        output, complaints = process.communicate(timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise OrchestraError(
            f"the code snapshot took more than {_DEADLINE_S:.0f} s: is the disk or git stuck?"
        ) from error
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError as error:
        said = complaints.decode(errors="replace").strip().splitlines()
        raise OrchestraError(
            f"the code snapshot failed: {said[-1] if said else f'exit {process.returncode}'}"
        ) from error
    if "error" in answer:
        kind = UsageError if answer["exit_code"] == ExitCode.USAGE else OrchestraError
        raise kind(answer["error"])
    return answer
