"""Options that several verbs share, and what the launch options mean as config values."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestra.schedule.submission import Given
from orchestra.wire.errors import UsageError

Run = Annotated[str, typer.Argument(metavar="RUN", help="Id, name, their beginning, or @last.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Upstream = Annotated[
    str | None,
    typer.Option(metavar="U", help="Known name (`orchestra upstreams`), hub id or folder."),
]
Presets = Annotated[
    list[str] | None,
    typer.Option("--preset", "-p", metavar="P", help="Name or file; repeatable, the last wins."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="K=V", help="One config value; V is TOML. Repeatable."),
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        metavar="RUN|DIR",
        help="Weights of a run's best checkpoint, of RUN:last, RUN:STEP, or of a folder.",
    ),
]
Priority = Annotated[
    int, typer.Option(metavar="N", help="Higher goes first in the queue; may be negative.")
]
After = Annotated[str | None, typer.Option(metavar="RUN", help="Start when that run is completed.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="T", help="A tag to find it by; repeatable.")
]
Note = Annotated[str | None, typer.Option(metavar="TEXT", help="A note to yourself.")]
Gpus = Annotated[int | None, typer.Option(min=1, metavar="N", help="Any N free GPUs.")]
GpuIds = Annotated[str | None, typer.Option(metavar="ID,ID", help="These GPUs, by index or UUID.")]
Cpu = Annotated[bool, typer.Option("--cpu", help="No GPU.")]
Nproc = Annotated[int | None, typer.Option(min=1, metavar="N", help="Ranks on the CPU.")]
Seed = Annotated[int | None, typer.Option(min=0, metavar="N", help="Default: drawn, and recorded.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Print the id and don't wait.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the id alone.")]


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
