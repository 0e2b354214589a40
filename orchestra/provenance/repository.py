"""One git repository, through GitPython's command runner. Only the snapshot process imports this.

Plumbing commands with fixed formats; git's own failures become sentences.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# GitPython would run `git version` when imported, and fail there if git is missing.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import git

from orchestra.provenance.git_environment import FOREIGN, SETTINGS
from orchestra.wire.errors import UsageError


class Repository:
    """The repository that `folder` lies in; commands run at its top."""

    def __init__(self, folder: Path) -> None:
        """Find it.

        Raises:
            UsageError: git is missing, refuses the repository, or can't read it.
        """
        self._git = git.Git(os.fspath(folder))
        # One call: the user's index is not necessarily .git/index (worktrees).
        answer = self.text("rev-parse", "--show-toplevel", "--show-prefix", "--git-path", "index")
        top, prefix, index = answer.split("\n")[:3]
        self.top = Path(top)
        """Its work tree's root."""
        self.prefix = prefix.rstrip("/")
        """`folder` seen from there; empty if it is the root."""
        self.index = folder / index
        """The user's index. Read only."""
        self._git = git.Git(top)

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """The output of `git ARGUMENTS` (UsageError with git's words if it fails)."""
        try:
            with tempfile.TemporaryFile() as file:
                file.write(stdin)
                file.seek(0)
                output = self._git.execute(
                    ["git", *arguments],
                    istream=file,
                    env={**SETTINGS, **(environment or {})},
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                )
        except git.GitCommandNotFound as error:
            raise UsageError(
                f"{self._git.working_dir} is in a git repository but there is no `git` program: "
                "install git"
            ) from error
        except git.GitCommandError as error:
            raise UsageError(self._sentence(arguments, error)) from error
        assert isinstance(output, bytes)
        return output

    def text(self, *arguments: str, stdin: bytes = b"") -> str:
        """`run`, decoded as a path is."""
        return os.fsdecode(self.run(*arguments, stdin=stdin)).removesuffix("\n")

    def object_id(self, expression: str) -> str | None:
        """The id of an object; None if there is no such object."""
        # Unlike rev-parse, this tells "missing" from "broken" by its output.
        answer = self.text("cat-file", "--batch-check", stdin=os.fsencode(f"{expression}\n"))
        return None if answer.endswith(" missing") else answer.split(" ", 1)[0]

    def _sentence(self, arguments: Sequence[str], error: git.GitCommandError) -> str:
        said = str(error.stderr).strip().removeprefix("stderr: ").strip("'\n ")
        folder = self._git.working_dir
        if "dubious ownership" in said:
            return (
                f"git refuses the repository of {folder} because another user owns it: if you "
                f"trust it, run `git config --global --add safe.directory {folder}`"
            )
        if "not a git repository" in said:
            return (
                f"{folder} lies in a .git repository that git can't read (its HEAD or config is "
                "broken): repair it, or move its .git away to run without git"
            )
        first = next((line for line in said.splitlines() if line.strip()), "no message")
        return (
            f"cannot snapshot the code of {folder}: `git {arguments[0]}` says: {first.strip()} "
            "(`git status` and `git fsck` there tell more)"
        )


def forget_foreign_repository() -> None:
    """Drop variables that make git look elsewhere than in the folder it is run in."""
    for name in FOREIGN:
        os.environ.pop(name, None)


def is_in_repository(folder: Path) -> bool:
    """Whether `folder` or one above it has a .git. Needs no git program."""
    return any((above / ".git").exists() for above in (folder, *folder.parents))
