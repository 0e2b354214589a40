"""Writing a git tree into a folder, as a checkout would: filters, links, modes, submodules."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from orchestra.provenance.repository import Repository
from orchestra.wire.errors import UsageError


def check_out(repository: Repository, tree: str, folder: Path) -> list[str]:
    """Write the tree into an empty folder; warnings about submodules that are not there.

    Not `git archive`: that honours export-ignore and export-subst.
    """
    with tempfile.TemporaryDirectory(prefix="orchestra-") as scratch:
        repository.run(
            "-c",
            "core.sparseCheckout=false",
            "-c",
            "core.fsmonitor=false",
            "-c",
            "submodule.recurse=false",
            f"--work-tree={folder}",
            "read-tree",
            "--reset",
            "-u",
            tree,
            environment={"GIT_INDEX_FILE": os.path.join(scratch, "index")},  # noqa: PTH118
        )
    warnings = []
    for path, commit in _submodules(repository, tree):
        warnings += _check_out_submodule(repository, path, commit, folder / path)
    return warnings


def _submodules(repository: Repository, tree: str) -> list[tuple[str, str]]:
    """Path (in the tree) and commit of each."""
    listed = os.fsdecode(repository.run("ls-tree", "-r", "-z", tree))
    found = []
    for entry in listed.split("\0"):
        if entry.startswith("160000 "):
            fields, path = entry.split("\t", 1)
            found.append((path, fields.split(" ")[2]))
    return found


def _check_out_submodule(repository: Repository, path: str, commit: str, folder: Path) -> list[str]:
    source = repository.top / repository.prefix / path
    if not (source / ".git").exists():
        return [f"submodule {path} is not checked out: the snapshot has an empty folder for it"]
    submodule = Repository(source)
    tree = submodule.object_id(f"{commit}^{{tree}}")
    if tree is None:
        raise UsageError(
            f"submodule {path} has no commit {commit}: fetch it, or run `git submodule update`"
        )
    return [f"{path}: {text}" for text in check_out(submodule, tree, folder)]
