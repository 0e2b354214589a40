"""The machine's GPUs in rows: state, holder, bars, short histories, and lanes of the last hours.

Pure: from readings to Content.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from textual.content import Content

from orchestra.formats import duration, size
from orchestra.gpu.snapshot import Gpu
from orchestra.gpu.status import GpuState, describe
from orchestra.schedule.host import Host
from orchestra.schedule.lanes import Stay
from orchestra.tui.colours import run_colour, run_letter
from orchestra.tui.text import join, safe

_STATES = {
    GpuState.FREE: ("○", "$text-success"),
    GpuState.LEASED: ("●", "$text-accent"),
    GpuState.FOREIGN: ("▲", "$text-warning"),
    GpuState.UNKNOWN: ("?", "$text-warning"),
    GpuState.OUTSIDE: ("-", "dim"),
}
_FULL, _EMPTY = "█", "░"
_BLOCKS = "▁▂▃▄▅▆▇█"
_IDLE = "·"
_HOT_C = 83
_WARN_SHARE = 0.9
_BAR = 12
_INDENT = "  "


@dataclass(frozen=True)
class Sample:
    """Of one device at one moment, as far as the driver tells."""

    utilisation: int | None
    temperature_c: int | None


@dataclass(frozen=True)
class Window:
    """The time that lanes show (Unix times)."""

    since_s: float
    now_s: float


def host_lines(host: Host, busy: Sequence[float]) -> list[Content]:
    """CPUs and memory; `busy`: percentages of the last minutes."""
    percent = "  -" if host.cpu_percent is None else f"{host.cpu_percent:3.0f}%"
    words = [Content.styled("host", "bold"), Content(f"{host.cpus} CPUs {percent}")]
    if busy:
        words.append(Content.styled(sparkline(busy, 0, 100), "$text-accent"))
    if host.load is not None:
        words.append(Content("load " + " ".join(f"{value:.1f}" for value in host.load)))
    memory = Content("memory ")
    return [join(*words, between="  "), join(Content(_INDENT), memory, *_memory(host))]


def _memory(host: Host) -> Iterable[Content]:
    used, total = host.memory_used_bytes, host.memory_total_bytes
    yield bar(used, total)
    yield Content(f" {_bytes(used)} / {_bytes(total)}")


def gpu_lines(gpu: Gpu, name: str | None, history: Sequence[Sample], now_s: float) -> list[Content]:
    """Two rows; `name`: of the run that holds it, if it is known."""
    device = gpu.device
    glyph, style = _STATES[gpu.status.state]
    head = join(
        Content.styled(str(device.index), "bold"),
        Content.styled(f"{glyph} {gpu.status.state.value}", style),
        safe(device.name or "unknown device", "bold"),
        _holder(gpu, name, now_s),
        between="  ",
    )
    used, total = device.memory_used, device.memory_total
    parts = [
        join(bar(used, total), Content(f" {_bytes(used)} / {_bytes(total)}")),
        join(Content(f"{_number(device.utilisation)}% "), _utilisation(history)),
        Content(f"{_number(device.power_w)}/{_number(device.power_limit_w)} W"),
        _temperature(device.temperature_c, history),
    ]
    return [head, join(Content(_INDENT), join(*parts, between="  "))]


def _holder(gpu: Gpu, name: str | None, now_s: float) -> Content:
    """The run and its user, or who else is there."""
    holder = gpu.holder
    if holder is None:
        if gpu.status.state == GpuState.FOREIGN and gpu.device.computing:
            return safe(", ".join(map(describe, gpu.device.computing)), "$text-warning")
        return safe("" if gpu.status.state == GpuState.FREE else gpu.status.reason, "dim")
    since = duration(max(0.0, now_s - holder.since))
    return join(
        safe(name or f"run {holder.run_id}", "bold"),
        safe(f" of {holder.user}, {since}", "dim"),
    )


def _utilisation(history: Sequence[Sample]) -> Content:
    known = [float(each.utilisation) for each in history if each.utilisation is not None]
    return Content.styled(sparkline(known, 0, 100), "$text-accent")


def _temperature(now_c: int | None, history: Sequence[Sample]) -> Content:
    known = [float(each.temperature_c) for each in history if each.temperature_c is not None]
    hot = now_c is not None and now_c >= _HOT_C
    text = join(Content(f"{_number(now_c)}°C{' hot' if hot else ''} "))
    return join(text, Content(sparkline(known, 20, 100))).stylize("$text-error" if hot else "")


def bar(used: float | None, total: float | None) -> Content:
    """How full; in another colour where it is nearly so."""
    if used is None or not total:
        return Content.styled(_EMPTY * _BAR, "dim")
    share = min(max(used / total, 0.0), 1.0)
    full = round(share * _BAR)
    style = "$text-warning" if share > _WARN_SHARE else "$text-success"
    return join(Content.styled(_FULL * full, style), Content.styled(_EMPTY * (_BAR - full), "dim"))


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A block of one of eight heights for each value."""
    top = len(_BLOCKS) - 1
    steps = (round((value - low) / (high - low) * top) for value in values)
    return "".join(_BLOCKS[min(max(step, 0), top)] for step in steps)


def letters_of(lanes: Iterable[Sequence[Stay]]) -> dict[str, int]:
    """A number for each run of these lanes, by its id: oldest first."""
    stays = sorted((stay for lane in lanes for stay in lane), key=lambda stay: stay.began_at)
    return {run_id: place for place, run_id in enumerate(dict.fromkeys(s.run_id for s in stays))}


def lane(stays: Sequence[Stay], letters: Mapping[str, int], window: Window, width: int) -> Content:
    """One cell for each part of the time: the run that had most of it, or a dot."""
    cells = [_cell(stays, window, place, width) for place in range(width)]
    return join(*(_mark(run_id, letters) for run_id in cells))


def _cell(stays: Sequence[Stay], window: Window, place: int, width: int) -> str | None:
    span_s = (window.now_s - window.since_s) / width
    begin_s = window.since_s + place * span_s
    had: dict[str, float] = {}
    for stay in stays:
        both_s = min(stay.ended_at, begin_s + span_s) - max(stay.began_at, begin_s)
        if both_s > 0:
            had[stay.run_id] = had.get(stay.run_id, 0.0) + both_s
    return max(had, key=had.__getitem__) if had else None


def _mark(run_id: str | None, letters: Mapping[str, int]) -> Content:
    if run_id is None:
        return Content.styled(_IDLE, "dim")
    place = letters[run_id]
    return Content.styled(run_letter(place), f"reverse {run_colour(place)}")


def axis(window: Window, width: int) -> Content:
    """The clock at both ends of the lanes."""
    begin = time.strftime("%H:%M", time.localtime(window.since_s))
    hours = f"last {(window.now_s - window.since_s) / 3600:g} h"
    ends = f"{begin}{hours:^{max(len(hours), width - 8)}}now"
    return Content.styled(ends[: max(width, 8)], "dim")


def legend(
    lanes: Iterable[Sequence[Stay]], letters: Mapping[str, int], width: int
) -> list[Content]:
    """Letters and names, in as many rows as they need; `*` where the run still has a device."""
    names: dict[str, str] = {}
    lives: set[str] = set()
    for stay in (stay for each in lanes for stay in each):
        names[stay.run_id] = stay.name
        lives |= {stay.run_id} if stay.lives else set()
    entries = [
        join(_mark(run_id, letters), safe(f" {names[run_id]}{' *' if run_id in lives else ''}"))
        for run_id in letters
    ]
    rows: list[list[Content]] = [[]]
    for entry in entries:
        if rows[-1] and sum(each.cell_length + 2 for each in (*rows[-1], entry)) > width:
            rows.append([])
        rows[-1].append(entry)
    return [join(*row, between="  ") for row in rows if row]


def _bytes(count: int | None) -> str:
    return "?" if count is None else size(count)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"
