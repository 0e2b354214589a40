"""Program: snapshot a workspace's code, or forget snapshots. One JSON document on stdout.

    python -m orchestra.provenance.snapshot --workspace W --runs R --run ID [--patch FILE]
    python -m orchestra.provenance.snapshot --workspace W --drop ID [ID ...]

A process of its own (see client.py): it loads GitPython, and works while the CLI goes on.
Writes git objects and refs/orchestra/<run>/, the code folder, the patch; nothing else.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from orchestra.provenance import plain
from orchestra.provenance.layout import lay_out
from orchestra.provenance.limits import MAX_FILE_BYTES
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import RunsFolder

if TYPE_CHECKING:
    from orchestra.provenance.repository import Repository

_PACKAGE = "orchestra/tasks.py"
"""A tree with this file brings its own orchestra."""


@dataclass(frozen=True)
class Order:
    """What to snapshot, for which run."""

    workspace: Path
    runs: RunsFolder
    run_id: str
    patch: Path | None


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    signal.signal(signal.SIGTERM, _end)  # so that temporary files go
    parser = argparse.ArgumentParser(prog="python -m orchestra.provenance.snapshot")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--patch", type=Path)
    parser.add_argument("--drop", nargs="+", default=[])
    options = parser.parse_args(arguments)
    workspace = options.workspace.resolve()
    try:
        if options.drop:
            answer = _drop(workspace, options.drop)
        elif options.runs is None or options.run is None:
            parser.error("--runs and --run are needed (or --drop)")
        else:
            answer = take(Order(workspace, RunsFolder(options.runs), options.run, options.patch))
    except OrchestraError as error:
        answer = {"error": str(error), "exit_code": error.exit_code}
    print(json.dumps(answer))
    return int(answer.get("exit_code", ExitCode.OK))


def take(order: Order) -> dict[str, Any]:
    """Snapshot; the fields of client.Snapshot (UsageError, OrchestraError)."""
    from orchestra.provenance.repository import (
        Repository,
        forget_foreign_repository,
        is_in_repository,
    )

    if not is_in_repository(order.workspace):
        return _take_plain(order, f"{order.workspace} is not in a git repository")
    forget_foreign_repository()
    repository = Repository(order.workspace)
    with tempfile.TemporaryDirectory(prefix="orchestra-") as scratch:
        answer = _take_tree(order, repository, Path(scratch))
    if answer is None:
        return _take_plain(order, f"{order.workspace} is ignored by git in {repository.top}")
    return answer


def _take_tree(order: Order, repository: Repository, scratch: Path) -> dict[str, Any] | None:
    """From git; None if git sees no file of the workspace."""
    from orchestra.provenance import worktree
    from orchestra.provenance.checkout import check_out

    status = worktree.read_status(repository, order.runs.path)
    tree = worktree.write_tree(repository, status, scratch)
    if tree is None:
        return None
    # Named before it is laid out: a gc may run at any moment.
    worktree.keep(repository, order.run_id, tree.id, status.commit)
    patch_bytes = 0
    if status.dirty and order.patch is not None:
        patch_bytes = worktree.write_patch(repository, tree, order.patch)
    warnings = [
        f"submodule {path} has changes of its own: the snapshot has its commit without them"
        for path in status.unclean_submodules
    ]
    package: plain.Files = {}
    if repository.object_id(f"{tree.id}:{_PACKAGE}") is None:
        package = _installed_package(repository.object_id(f"{tree.id}:orchestra") is not None)

    def fill(folder: Path) -> None:
        warnings.extend(check_out(repository, tree.id, folder))
        plain.write(package, folder)

    code = lay_out(order.runs, _key(tree.id, package), fill)
    return {
        "tree": tree.id,
        "code": code.name,
        "commit": status.commit,
        "branch": status.branch,
        "dirty": status.dirty,
        "patch_bytes": patch_bytes,
        "repository": str(repository.top),
        "prefix": repository.prefix,
        "warnings": warnings,
    }


def _take_plain(order: Order, why: str) -> dict[str, Any]:
    files, big = plain.read_workspace(order.workspace, order.runs.path)
    tree = f"files-{plain.digest(files)[:40]}"
    package: plain.Files = {}
    if _PACKAGE not in files:
        package = _installed_package(any(path.startswith("orchestra/") for path in files))
    code = lay_out(
        order.runs, _key(tree, package), lambda folder: plain.write({**files, **package}, folder)
    )
    warnings = [f"{why}: no commit is on record, only a hash of the files ({tree})"]
    if big:
        warnings.append(
            f"files over {MAX_FILE_BYTES // 10**6} MB are not part of the snapshot: "
            f"{', '.join(big)}"
        )
    return {
        "tree": tree,
        "code": code.name,
        "commit": None,
        "branch": None,
        "dirty": None,
        "patch_bytes": 0,
        "repository": None,
        "prefix": "",
        "warnings": warnings,
    }


def _installed_package(hidden: bool) -> plain.Files:
    if hidden:
        raise UsageError(
            "the workspace has a folder orchestra/ that is not the orchestra package and would "
            "hide it: rename that folder"
        )
    return plain.read_package()


def _key(tree: str, package: plain.Files) -> str:
    return f"{tree}-{plain.digest(package)[:16]}" if package else tree


def _drop(workspace: Path, run_ids: list[str]) -> dict[str, Any]:
    from orchestra.provenance.repository import (
        Repository,
        forget_foreign_repository,
        is_in_repository,
    )
    from orchestra.provenance.worktree import drop

    if is_in_repository(workspace):
        forget_foreign_repository()
        drop(Repository(workspace), run_ids)
    return {"dropped": run_ids}


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
