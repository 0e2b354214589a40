"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="Id, name, their beginning, or @last.")]
RunOrExport = Annotated[
    str, typer.Argument(metavar="RUN", help="A run, or the folder of an export (with a slash).")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Upstream = Annotated[
    str | None,
    typer.Option(metavar="U", help="Known name (`orchestra upstreams`), hub id, URL or folder."),
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
