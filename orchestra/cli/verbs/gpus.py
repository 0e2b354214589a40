"""orchestra gpus"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.context import Globals, workspace_of
from orchestra.cli.output import emit, emit_json, emit_raw, is_terminal, say, table
from orchestra.formats import ago, duration, size
from orchestra.wire.exit_codes import ExitCode

if TYPE_CHECKING:
    from orchestra.gpu.probe import GpuProcess
    from orchestra.gpu.snapshot import Gpu, Snapshot
    from orchestra.schedule.host import Host
    from orchestra.schedule.lanes import Lanes
    from orchestra.workspace import Workspace

_EVERY_S = 1.0
_CLEAR = "\x1b[H\x1b[2J"
_UUID_LETTERS = 12  # enough to name it with --gpu-ids


def gpus(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Each second, until Ctrl-C.")
    ] = False,
    host: Annotated[bool, typer.Option("--host", help="Its CPUs and memory as well.")] = False,
    hours: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="H", help="Which runs had each GPU in the last H hours."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show the GPUs of this machine: who has them, memory, load.
    Power, heat, processes and links, too.

    \b
    Examples:
      orchestra gpus
      orchestra gpus --watch
      orchestra gpus --json | jq -r '.[] | select(.state == "free") | .uuid'
      orchestra gpus --host --hours 12

    With --json --watch one document follows the other. With --host or --hours it is an object:
    gpus, host, history (by UUID). Exits with 1 if the driver does not answer.
    """
    from orchestra.schedule.gpus import readings
    from orchestra.schedule.host import HostSampler

    given: Globals = context.obj
    sampler = HostSampler() if host else None
    if sampler is not None:
        sampler.read()  # how busy CPUs are is a difference
    workspace = workspace_of(context) if hours else None
    redraw = watch and not json and is_terminal(sys.stdout)
    for now in readings(given.workspace, given.runs_dir):
        if watch and not json:
            emit_raw((_CLEAR if redraw else "") + time.strftime("%H:%M:%S"))
        beside = _Beside(
            sampler.read() if sampler else None,
            _history(workspace, hours) if workspace and hours else None,
        )
        _show(now, beside, json=json)
        if not watch:
            break
        sys.stdout.flush()
        time.sleep(_EVERY_S)
    if now.is_broken:
        raise typer.Exit(ExitCode.FAILED)


@dataclass(frozen=True)
class _Beside:
    """What else was asked for."""

    host: Host | None
    history: Lanes | None


def _history(workspace: Workspace, hours: float) -> Lanes:
    from orchestra.schedule.lanes import read_lanes

    now_s = time.time()
    return read_lanes(workspace, now_s - 3600 * hours, now_s)


def _show(now: Snapshot, beside: _Beside, *, json: bool) -> None:
    if json:
        if now.error is not None:
            say(now.error)
        _show_json(now, beside)
        return
    if beside.host is not None:
        _show_host(beside.host)
    _show_gpus(now)
    if beside.history is not None:
        _show_history(beside.history, now)


def _show_json(now: Snapshot, beside: _Beside) -> None:
    """A list of GPUs as ever; an object where more was asked for."""
    from orchestra.schedule.gpus import gpu_row
    from orchestra.schedule.lanes import to_json

    rows = [gpu_row(gpu, now) for gpu in now.gpus]
    more: dict[str, Any] = {}
    if beside.host is not None:
        more["host"] = beside.host.to_json()
    if beside.history is not None:
        more["history"] = to_json(beside.history)
    emit_json({"gpus": rows, **more} if more else rows)


def _show_host(host: Host) -> None:
    busy = "?" if host.cpu_percent is None else f"{host.cpu_percent:.0f}%"
    load = " ".join(f"{value:.1f}" for value in host.load or ()) or "?"
    memory = f"{_bytes(host.memory_used_bytes)} / {_bytes(host.memory_total_bytes)}"
    emit(f"host: {host.cpus} CPUs {busy} busy, load {load}, memory {memory}")


def _show_history(history: Lanes, now: Snapshot) -> None:
    index = {gpu.device.uuid: str(gpu.device.index) for gpu in now.gpus}
    rows = [
        {
            "gpu": index.get(uuid, "-"),
            "run": stay.name if stay.evaluation is None else f"{stay.name} eval {stay.evaluation}",
            "attempt": str(stay.attempt),
            "began": ago(stay.began_at),
            "had it for": duration(stay.ended_at - stay.began_at),
            "until": "now" if stay.lives else ago(stay.ended_at),
        }
        for uuid, stays in history.items()
        for stay in stays
    ]
    emit()
    emit("no run of this workspace had a GPU in that time" if not rows else "History")
    table(rows, right=("gpu", "attempt"))


def _show_gpus(now: Snapshot) -> None:
    if not now.gpus:
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
