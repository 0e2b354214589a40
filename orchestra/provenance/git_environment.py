"""What git finds in its environment whenever orchestra runs it. Imports nothing of git's."""

from __future__ import annotations

import os

# What a hook or a script may have set to mean another repository (git rev-parse --local-env-vars).
FOREIGN = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_PREFIX",
    "GIT_NAMESPACE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
)

#: English messages; no refresh of the user's index by the way; no questions on the terminal.
SETTINGS = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


def git_environment() -> dict[str, str]:
    """This process's, without what would make git look elsewhere than in the folder named."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, **SETTINGS}
