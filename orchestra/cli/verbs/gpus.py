"""orchestra gpus"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import Globals
from orchestra.cli.output import emit, emit_json, emit_raw, is_terminal, say, table
from orchestra.formats import size
from orchestra.wire.exit_codes import ExitCode

if TYPE_CHECKING:
    from orchestra.gpu.probe import GpuProcess
    from orchestra.gpu.snapshot import Gpu, Snapshot

_EVERY_S = 1.0
_CLEAR = "\x1b[H\x1b[2J"
_UUID_LETTERS = 12  # enough to name it with --gpu-ids


def gpus(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Each second, until Ctrl-C.")
    ] = False,
    json: options.Json = False,
) -> None:
    """The GPUs of this machine: who has them, memory, load, power, heat, processes, links.

    \b
    Examples:
      orchestra gpus
      orchestra gpus --watch
      orchestra gpus --json | jq -r '.[] | select(.state == "free") | .uuid'

    With --json --watch one document follows the other. Exits with 1 if the driver does not answer.
    """
    from orchestra.schedule.gpus import readings

    given: Globals = context.obj
    redraw = watch and not json and is_terminal(sys.stdout)
    for now in readings(given.workspace, given.runs_dir):
        if watch and not json:
            emit_raw((_CLEAR if redraw else "") + time.strftime("%H:%M:%S"))
        _show(now, json=json)
        if not watch:
            break
        sys.stdout.flush()
        time.sleep(_EVERY_S)
    if now.is_broken:
        raise typer.Exit(ExitCode.FAILED)


def _show(now: Snapshot, *, json: bool) -> None:
    from orchestra.schedule.gpus import gpu_row

    if json:
        if now.error is not None:
            say(now.error)
        emit_json([gpu_row(gpu, now) for gpu in now.gpus])
    elif not now.gpus:
        emit(now.error or "this machine has no GPUs")
    else:
        rows = [_cells(gpu, now) for gpu in now.gpus]
        table(rows, right=("gpu", "memory", "load", "power", "heat"))
        if now.limit is not None:
            emit(f"this workspace's runs hold {now.held_here} of at most {now.limit}")


def _cells(gpu: Gpu, now: Snapshot) -> dict[str, str]:
    from orchestra.gpu.status import run_of
    from orchestra.schedule.gpus import links_of

    device = gpu.device
    linked = [str(index) for index, kind in links_of(gpu, now).items() if kind == "nvlink"]
    processes = [
        _process(process, run_of(process, gpu.holder)) for process in device.processes or ()
    ]
    return {
        "gpu": str(device.index),
        "uuid": device.uuid[:_UUID_LETTERS],
        "name": device.name or "-",
        "memory": f"{_bytes(device.memory_used)} / {_bytes(device.memory_total)}",
        "load": _number(device.utilisation, "%"),
        "power": f"{_number(device.power_w)} / {_number(device.power_limit_w, ' W')}",
        "heat": _number(device.temperature_c, " C"),
        "nvlink": ",".join(linked) or "-",
        "state": gpu.status.reason,
        "processes": "; ".join(processes) or ("?" if device.processes is None else "-"),
    }


def _process(process: GpuProcess, run: str | None) -> str:
    words = (
        str(process.pid),
        process.owner.user or "?",
        run and f"run {run}",
        _bytes(process.memory),
    )
    return " ".join(word for word in words if word)


def _bytes(count: int | None) -> str:
    return "?" if count is None else size(count)


def _number(value: float | None, unit: str = "") -> str:
    return "?" if value is None else f"{value:.0f}{unit}"
