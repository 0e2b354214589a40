"""What a user asks for, in plain values: made before pydantic is loaded."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestra.registry.rows import Demand, gpus_of
from orchestra.wire.errors import UsageError
from orchestra.wire.queue import QueueEntry

if TYPE_CHECKING:
    from orchestra.config.compose import Flag, Request
    from orchestra.config.schema import LaunchConfig


class Given(NamedTuple):
    """One config value given by a flag of its own."""

    key: str
    value: Any
    flag: str


def said_of(point: Sequence[Given]) -> str:
    """`task.fold=3`."""
    return " ".join(f"{item.key}={item.value}" for item in point)


EACH = "each"
"""What the values of a member are said to come from."""


class Member(NamedTuple):
    """The place of a run in a parent run."""

    parent: str
    """Its id."""
    number: int
    """From 1."""
    point: tuple[Given, ...]
    """What the config has for this member alone."""

    @property
    def said(self) -> str:
        """`task.fold=3`."""
        return said_of(self.point)


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
    member: Member | None = None
    """Of the parent run that it is submitted with (see schedule.parent)."""
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
        given = self.given + (self.member.point if self.member else ())
        return Request(
            workspace, self.task, self.presets, self.upstream, flags(given), self.sets, base
        )


def flags(given: tuple[Given, ...]) -> tuple[Flag, ...]:
    """The same as the config package has them."""
    from orchestra.config.compose import Flag

    return tuple(Flag(*item) for item in given)


def demand_of(launch: LaunchConfig, entry: QueueEntry) -> Demand:
    """What a job with this `launch` table asks of the queue."""
    gpus = gpus_of(launch.device, launch.nproc)
    return Demand(entry.priority, gpus, tuple(launch.gpu_ids), entry.after)


def launch_values(
    *, gpus: int | None, gpu_ids: str | None, cpu: bool, nproc: int | None
) -> tuple[Given, ...]:
    """The `launch` table as the flags say it (UsageError where they contradict each other)."""
    ids = [word.strip() for word in gpu_ids.split(",") if word.strip()] if gpu_ids else []
    if gpu_ids is not None and not ids:
        raise UsageError("--gpu-ids names no GPU: give indices or UUIDs, such as --gpu-ids 0,1")
    if cpu and (gpus or ids):
        raise UsageError("--cpu contradicts --gpus and --gpu-ids")
    if nproc and (gpus or ids):
        raise UsageError("--nproc counts ranks on the CPU; on GPUs there is one rank per GPU")
    if gpus and ids and gpus != len(ids):
        raise UsageError(f"--gpus {gpus} contradicts --gpu-ids, which names {len(ids)}")
    given: list[Given] = []
    if cpu:
        given.append(Given("launch.device", "cpu", "--cpu"))
    if gpus or ids:
        flag = "--gpu-ids" if ids else "--gpus"
        given.append(Given("launch.device", "gpu", flag))
        given.append(Given("launch.gpu_ids", ids, flag))
        given.append(Given("launch.nproc", len(ids) or gpus, flag))
    if nproc:
        given.append(Given("launch.nproc", nproc, "--nproc"))
    return tuple(given)


def seed_value(seed: int | None) -> tuple[Given, ...]:
    """The seed as --seed says it."""
    return () if seed is None else (Given("seed", seed, "--seed"),)


def cpu_command(arguments: Sequence[str]) -> str:
    """The same command line with a rank on the CPU for each GPU, to be shown to the user."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in ("--gpus", "--gpu-ids"):
            kept.append(word)
            continue
        if not equals:
            value = next(words, "")
        count = len(value.split(",")) if option == "--gpu-ids" else value
        kept += ["--cpu", "--nproc", str(count)]
    return shlex.join(["orchestra", *kept, *([] if "--cpu" in kept else ["--cpu"])])


def points(each: Mapping[str, Sequence[Any]], sets: Sequence[str]) -> list[tuple[Given, ...]]:
    """What each member has for itself; empty where one run is meant.

    A key that one of `sets` (`KEY=VALUE`) gives has that value alone.
    """
    fixed = {text.partition("=")[0].strip() for text in sets}
    axes = [[Given(key, value, EACH) for value in each[key]] for key in each if key not in fixed]
    return list(product(*axes)) if axes else []
