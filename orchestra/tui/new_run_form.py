"""What the form of a new run says, as a command line and as the submission of that very line."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from orchestra.schedule.submission import Submission, cpu_command, launch_values
from orchestra.wire.errors import UsageError

PRESET, CPU, GPU = "preset", "cpu", "gpu"
"""Devices: as the presets say, or one of these."""


@dataclass(frozen=True)
class Form:
    """The fields, as typed."""

    task: str = ""
    upstream: str = ""
    presets: str = ""
    """Names with spaces between."""
    device: str = PRESET
    ranks: str = ""
    """How many, each on a GPU of its own or on the CPU; empty: as the presets say."""
    sets: tuple[str, ...] = ()
    name: str = ""
    priority: str = ""

    def words(self) -> list[str]:
        """What stands behind the program's name."""
        words = ["run", self.task]
        words += [word for preset in self.presets.split() for word in ("--preset", preset)]
        words += ["--upstream", self.upstream.strip()] if self.upstream.strip() else []
        if self.device == GPU:
            words += ["--gpus", self.ranks.strip() or "1"]
        elif self.device == CPU:
            words += ["--cpu", *(["--nproc", self.ranks.strip()] if self.ranks.strip() else [])]
        words += [word for item in self.sets for word in ("--set", item)]
        words += ["--name", self.name.strip()] if self.name.strip() else []
        words += ["--priority", self.priority.strip()] if self.priority.strip() else []
        return [*words, "--detach"]

    def command(self, program: tuple[str, ...]) -> str:
        """The command line."""
        return shlex.join([*program, *self.words()])


def submission(form: Form, program: tuple[str, ...]) -> Submission:
    """What `command` asks for (UsageError: it asks for nothing that can be read)."""
    if not form.task:
        raise UsageError("choose a task")
    ranks = _number("GPUs or ranks", form.ranks, least=1)
    gpus = (ranks or 1) if form.device == GPU else None
    nproc = ranks if form.device == CPU else None
    words = form.words()
    asked = Submission(
        task=form.task,
        presets=tuple(form.presets.split()),
        upstream=form.upstream.strip() or None,
        given=launch_values(gpus=gpus, gpu_ids=None, cpu=form.device == CPU, nproc=nproc),
        sets=form.sets,
        priority=_number("priority", form.priority) or 0,
        name=form.name.strip() or None,
    )
    return replace(asked, argv=(*program, *words), cpu_command=cpu_command(words))


def _number(what: str, typed: str, least: int | None = None) -> int | None:
    if not typed.strip():
        return None
    try:
        number = int(typed)
    except ValueError as error:
        raise UsageError(f"{what}: {typed!r} is no whole number") from error
    if least is not None and number < least:
        raise UsageError(f"{what}: give {least} or more")
    return number
