"""A workspace in a git repository as one git tree: what is tracked, plus untracked but not ignored.

The user's index, branch, stash and work tree stay as they are: a copy of the index takes the
changes. What the tree can't hold (big files, repositories in the repository) is refused by name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra.provenance.limits import check_sizes
from orchestra.provenance.repository import Repository
from orchestra.wire.errors import UsageError


@dataclass(frozen=True)
class Status:
    """How the workspace differs from HEAD. Paths are relative to the repository's top."""

    commit: str | None  # None before the first commit
    branch: str | None  # None if HEAD is detached
    changed: tuple[str, ...]  # tracked files with changes, staged or not, or in conflict
    untracked: tuple[str, ...]
    unclean_submodules: tuple[str, ...]  # with changes of their own that no commit holds

    @property
    def dirty(self) -> bool:
        return bool(self.changed or self.untracked)


@dataclass(frozen=True)
class Tree:
    """The workspace as a tree object. `base` is the same folder in HEAD, if it has it."""

    id: str
    base: str | None


def read_status(repository: Repository, runs: Path) -> Status:
    """Ask git what changed in the workspace, the runs folder left out."""
    output = repository.run(
        "status",
        "--porcelain=v2",
        "--branch",
        "--no-ahead-behind",
        "-z",
        "--untracked-files=all",
        "--ignore-submodules=none",
        "--no-renames",
        "--",
        *_pathspec(repository, runs),
    )
    return _parse_status(os.fsdecode(output).split("\0"))


def write_tree(repository: Repository, status: Status, scratch: Path) -> Tree | None:
    """Put the workspace into the repository's objects; None if git sees no file of it.

    Args:
        scratch: a folder for temporary files.

    Raises:
        UsageError: untracked files are too big, or a repository lies untracked in it.
    """
    base = repository.object_id(f"HEAD:{repository.prefix}") if status.commit else None
    if not status.dirty:
        return Tree(base, base) if base else None
    _refuse_nested(status.untracked)
    check_sizes(_sizes(repository.top, status.untracked), "untracked", _REMEDY)
    index = scratch / "index"
    if repository.index.is_file():
        # Its stat data saves git from reading unchanged files again.
        shutil.copyfile(repository.index, index)
    environment = {"GIT_INDEX_FILE": os.fspath(index)}
    if repository.prefix:
        _drop_conflicts(repository, environment)
    paths = b"".join(os.fsencode(path) + b"\0" for path in (*status.changed, *status.untracked))
    update = ("update-index", "-z", "--add", "--remove", "--stdin")
    repository.run(*update, stdin=paths, environment=environment)
    prefix = [f"--prefix={repository.prefix}/"] if repository.prefix else []
    tree = repository.run("write-tree", *prefix, environment=environment).decode().strip()
    return Tree(tree, base)


def write_patch(repository: Repository, tree: Tree, path: Path) -> int:
    """Write the difference from HEAD, binary files included; its size in bytes.

    Paths in it start at the repository's top: `git apply` there, on the recorded commit.
    """
    base = tree.base or repository.text("hash-object", "-t", "tree", os.devnull)
    below = f"{repository.prefix}/" if repository.prefix else ""
    repository.run(
        "diff-tree",
        "-r",
        "-p",
        "--binary",
        "--full-index",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--submodule=short",
        f"--src-prefix=a/{below}",
        f"--dst-prefix=b/{below}",
        f"--output={path}",
        base,
        tree.id,
    )
    return path.stat().st_size


def keep(repository: Repository, run_id: str, tree: str, commit: str | None) -> None:
    """Name tree and commit so that no gc or amend loses them."""
    lines = [f"update {_ref(run_id, 'tree')} {tree}"]
    if commit is not None:
        lines.append(f"update {_ref(run_id, 'base')} {commit}")
    repository.run("update-ref", "--stdin", stdin="\n".join([*lines, ""]).encode())


def drop(repository: Repository, run_ids: Sequence[str]) -> None:
    """Forget the names of these runs; git may then collect what nothing else needs."""
    lines = "".join(
        f"delete {_ref(run_id, kind)}\n" for run_id in run_ids for kind in ("tree", "base")
    )
    repository.run("update-ref", "--stdin", stdin=lines.encode())


_REMEDY = "add them to .gitignore, move them out of the workspace, or commit them"


def _ref(run_id: str, kind: str) -> str:
    return f"refs/orchestra/{run_id}/{kind}"


def _pathspec(repository: Repository, runs: Path) -> Iterator[str]:
    yield f":(top,literal){repository.prefix}" if repository.prefix else ":(top)"
    try:
        inside = runs.resolve().relative_to(repository.top)
    except ValueError:
        return
    yield f":(top,exclude,literal){inside}"


def _parse_status(entries: Sequence[str]) -> Status:
    """Porcelain v2: see git-status(1), "Changed Tracked Entries"."""
    head: dict[str, str] = {}
    changed: list[str] = []
    untracked: list[str] = []
    unclean: list[str] = []
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            head[name] = value
        elif kind == "?":
            untracked.append(rest)
        elif kind in ("1", "u"):
            # "1 XY sub mH mI mW hH hI path", "u XY sub m1 m2 m3 mW h1 h2 h3 path"
            path = rest.split(" ", 7 if kind == "1" else 9)[-1]
            submodule = rest.split(" ", 2)[1]
            changed.append(path)
            if submodule.startswith("S") and submodule[2:] != "..":
                unclean.append(path)
    commit, branch = head["branch.oid"], head["branch.head"]
    return Status(
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        changed=tuple(changed),
        untracked=tuple(untracked),
        unclean_submodules=tuple(unclean),
    )


def _refuse_nested(untracked: Sequence[str]) -> None:
    """git lists a repository inside the repository as one folder."""
    nested = [path for path in untracked if path.endswith("/")]
    if nested:
        raise UsageError(
            f"a git repository lies inside the workspace's: {', '.join(nested)}: its files can't "
            "be part of the snapshot; add it to .gitignore, or make it a submodule "
            "(git submodule add)"
        )


def _sizes(top: Path, paths: Sequence[str]) -> Iterator[tuple[str, int]]:
    for path in paths:
        try:
            yield path, os.lstat(top / path).st_size
        except FileNotFoundError:
            continue  # deleted since git looked


def _drop_conflicts(repository: Repository, environment: dict[str, str]) -> None:
    """Take files in conflict outside the workspace out of the copied index.

    write-tree refuses an index with any conflict; those inside the workspace are added later.
    """
    listed = repository.run("ls-files", "-z", "--unmerged", environment=environment)
    paths = {entry.split(b"\t", 1)[1] for entry in listed.split(b"\0") if entry}
    if paths:
        repository.run(
            "update-index",
            "-z",
            "--force-remove",
            "--stdin",
            stdin=b"".join(path + b"\0" for path in sorted(paths)),
            environment=environment,
        )
