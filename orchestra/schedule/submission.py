"""What a user asks for, in plain values: made before pydantic is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from orchestra.config.compose import Flag, Request


class Given(NamedTuple):
    """One config value given by a flag of its own."""

    key: str
    value: Any
    flag: str


@dataclass(frozen=True)
class Submission:
    """A run as asked for."""

    task: str
    presets: tuple[str, ...] = ()
    upstream: str | None = None
    given: tuple[Given, ...] = ()
    sets: tuple[str, ...] = ()
    init_from: str | None = None
    """Whose weights to start from (see schedule.initial.find_weights)."""
    name: str | None = None
    argv: tuple[str, ...] = ()
    """The command line, for the record."""
    cpu_command: str = "orchestra run TASK --cpu"
    """The same command without GPUs, shown where there are none."""

    def request(self, workspace: Path) -> Request:
        """For `orchestra.config.compose`."""
        from orchestra.config.compose import Request

        return Request(
            workspace, self.task, self.presets, self.upstream, flags(self.given), self.sets
        )


def flags(given: tuple[Given, ...]) -> tuple[Flag, ...]:
    """The same as the config package has them."""
    from orchestra.config.compose import Flag

    return tuple(Flag(*item) for item in given)
