"""What a user asks for, in plain values: made before pydantic is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestra.registry.rows import Demand, gpus_of
from orchestra.wire.queue import QueueEntry

if TYPE_CHECKING:
    from orchestra.config.compose import Flag, Request
    from orchestra.config.schema import LaunchConfig


class Given(NamedTuple):
    """One config value given by a flag of its own."""

    key: str
    value: Any
    flag: str


class Original(NamedTuple):
    """The run that a clone is like."""

    run_id: str
    config: Path
    """Its frozen config."""


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
    priority: int = 0
    after: str | None = None
    """The run that must be completed first."""
    name: str | None = None
    tags: tuple[str, ...] = ()
    remark: str = ""
    """A note."""
    original: Original | None = None
    """Its config stands in the place of presets (see schedule.clone)."""
    argv: tuple[str, ...] = ()
    """The command line, for the record."""
    cpu_command: str = "orchestra run TASK --cpu"
    """The same command without GPUs, shown where there are none."""

    def request(self, workspace: Path) -> Request:
        """For `orchestra.config.compose`."""
        from orchestra.config.compose import Base, Request

        base = None
        if self.original is not None:
            base = Base(self.original.config, f"clone of {self.original.run_id}")
        return Request(
            workspace, self.task, self.presets, self.upstream, flags(self.given), self.sets, base
        )


def flags(given: tuple[Given, ...]) -> tuple[Flag, ...]:
    """The same as the config package has them."""
    from orchestra.config.compose import Flag

    return tuple(Flag(*item) for item in given)


def demand_of(launch: LaunchConfig, entry: QueueEntry) -> Demand:
    """What a job with this `launch` table asks of the queue."""
    gpus = gpus_of(launch.device, launch.nproc)
    return Demand(entry.priority, gpus, tuple(launch.gpu_ids), entry.after)
