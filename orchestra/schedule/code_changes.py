"""How the code of two runs differs, as git tells it from what their snapshots keep alive.

Reads the repository, changes nothing in it. What git prints is text from outside.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from orchestra.provenance.git_environment import git_environment

_DEADLINE_S = 20.0
_COMMITS = 50
# Neither a program that the repository's config names nor one of its attributes is ever started.
_DIFF = ("diff", "--no-color", "--no-ext-diff", "--no-textconv")
_REVISIONS = "--end-of-options"  # what follows is one, whatever it looks like
_PLAIN_TREE = "files-"  # of a workspace without git: a hash of its files


@dataclass(frozen=True)
class Code:
    """A run's code as provenance.json has it; empty where that is not on record."""

    commit: str
    tree: str
    folder: str
    """Its name below runs/.snapshots."""


@dataclass(frozen=True)
class Commits:
    """Those that only one of two commits has in its history."""

    count: int
    newest: tuple[str, ...]
    """`<short id> <subject>`, newest first; not more than 50."""


@dataclass(frozen=True)
class FileChange:
    """One file; of a binary one no lines are counted."""

    path: str
    added: int | None
    removed: int | None


@dataclass(frozen=True)
class CodeChange:
    """From one run's code to another's."""

    same: bool | None
    """None: it can't be told."""
    commits_removed: Commits | None = None
    """That the other lacks; None where the two are not related, or not on record."""
    commits_added: Commits | None = None
    files: tuple[FileChange, ...] = ()
    patch: str | None = None
    """The whole difference, where it was asked for."""
    problem: str = ""
    """A sentence on what can't be told, and why."""


class _GitFailed(Exception):
    """With git's own words."""


def code_change(repository: Path, one: Code, other: Code, *, whole: bool) -> CodeChange:
    """From `one` to `other`, in the repository that `repository` lies in."""
    if not one.tree or not other.tree:
        return CodeChange(None, problem="the code is not on record")
    if one.tree == other.tree and one.folder == other.folder:
        return CodeChange(True, *_commits(repository, one.commit, other.commit))
    if one.tree == other.tree:
        return CodeChange(
            False, problem="the workspace's code is the same, the installed orchestra is not"
        )
    if one.tree.startswith(_PLAIN_TREE) or other.tree.startswith(_PLAIN_TREE):
        folders = f"{one.folder} and {other.folder} in runs/.snapshots"
        return CodeChange(False, problem=f"without git no difference is on record: see {folders}")
    removed, added = _commits(repository, one.commit, other.commit)
    try:
        files = _files(
            _git(repository, *_DIFF, "--numstat", "-z", _REVISIONS, one.tree, other.tree)
        )
        patch = _git(repository, *_DIFF, _REVISIONS, one.tree, other.tree) if whole else None
    except _GitFailed as error:
        return CodeChange(False, removed, added, problem=str(error))
    return CodeChange(False, removed, added, files, patch)


def _commits(repository: Path, one: str, other: str) -> tuple[Commits | None, Commits | None]:
    """What only the first and what only the second has."""
    if not one or not other:
        return None, None
    try:
        _git(repository, "merge-base", _REVISIONS, one, other)
        return _only(repository, other, one), _only(repository, one, other)
    except _GitFailed:  # no common history, or a commit that is gone
        return None, None


def _only(repository: Path, without: str, of: str) -> Commits:
    span = f"{without}..{of}"
    count = int(_git(repository, "rev-list", "--count", _REVISIONS, span))
    if not count:
        return Commits(0, ())
    form = ("--no-color", "--no-show-signature", "--format=%h %s", f"--max-count={_COMMITS}")
    lines = _git(repository, "log", *form, _REVISIONS, span)
    return Commits(count, tuple(lines.splitlines()))


def _files(numstat: str) -> tuple[FileChange, ...]:
    """Of `--numstat -z`: counts, tabs, a path, NUL; renames are not looked for."""
    entries = (line.split("\t", 2) for line in numstat.split("\0") if line.count("\t") >= 2)
    return tuple(
        FileChange(path, _count(added), _count(removed)) for added, removed, path in entries
    )


def _count(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _git(repository: Path, *arguments: str) -> str:
    settings = ("--no-pager", "-c", "diff.renames=false")
    try:
        done = subprocess.run(
            ["git", "-C", os.fspath(repository), *settings, *arguments],
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE_S,
        )
    except FileNotFoundError:
        raise _GitFailed("there is no `git` program: install git to compare code") from None
    except subprocess.TimeoutExpired:
        raise _GitFailed(f"git did not answer within {_DEADLINE_S:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _GitFailed(f"git can't compare the code: {said[-1] if said else 'no message'}")
    return done.stdout.decode(errors="replace")
