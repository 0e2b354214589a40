"""Everything that is wrong with a config, gathered before anything is said.

Data and wording only: no file is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from orchestra.wire.errors import UsageError

KeyPath = tuple[str | int, ...]
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Problem:
    """One error: where it stands, which key it is about, one sentence."""

    key: str
    """Dotted; empty where a whole file is unreadable."""
    place: str
    """`file:line`, a flag, or empty if the key stands nowhere."""
    text: str

    def __str__(self) -> str:
        key = "" if self.place == f"--{self.key}" else self.key
        return ": ".join(part for part in (self.place, key, self.text) if part)


class ConfigErrors(UsageError):
    """All problems of one composition, one per line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        count = len(self.problems)
        heading = "the config has an error:" if count == 1 else f"the config has {count} errors:"
        super().__init__("\n  ".join([heading, *map(str, self.problems)]))


def dotted(path: KeyPath) -> str:
    """`optim.lr`, `data.test[0]`; a part that TOML would quote is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text.removeprefix(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or what there is when nothing is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {', '.join(names)}" if names else "there are none"


def shown(path: Path, workspace: Path) -> str:
    """`path` as messages and origins show it: relative to the workspace where it lies in it."""
    return str(path.relative_to(workspace)) if path.is_relative_to(workspace) else str(path)
