"""Records as lines of rank 0's log: text for people, or JSON for programs. Writes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestra.wire.records import Record


def json_line(record: Record) -> str:
    """One object with the keys of records.jsonl; null for numbers that JSON has no word for."""
    document = {
        "kind": record.kind,
        "step": record.step,
        "time_s": record.time_s,
        "values": _finite(record.values),
    }
    return json.dumps(document, allow_nan=False)


def text(record: Record) -> str:
    """A line; of a start record also the table of parameters."""
    values = record.values
    if record.kind == "notice":
        said: str = values["text"]
        step = f"step {record.step}: "
        return said if said.startswith(step) else step + said
    if record.kind == "train":
        return f"step {record.step}: {_train(values)}"
    line = f"{record.kind} at step {record.step}: {_listed(values)}"
    if parts := values.get("parts"):
        line += f"\n{_table(parts)}"
    return line


def _train(values: Mapping[str, Any]) -> str:
    """The numbers by their names, then rates, waits, memory and the time left in words."""
    known = dict(values)
    words = [
        _said(known, "audio_s_per_s", lambda rate: f"{rate:.3g} x real time"),
        _said(known, "steps_per_s", lambda rate: f"{rate:.3g} steps/s"),
        _said(known, "data_share", lambda share: f"{share:.1%} waiting for data"),
        _said(known, "communication_share", lambda share: f"{share:.1%} for ranks"),
        _said(known, "memory_bytes", lambda size: f"{size / 2**20:.0f} MiB"),
        _time_left(known),
    ]
    if not known.get("skipped"):
        known.pop("skipped", None)
    return ", ".join(filter(None, [_listed(known), *words]))


def _said(known: dict[str, Any], name: str, say: Callable[[float], str]) -> str:
    value = known.pop(name, None)
    return "" if value is None else say(value)


def _time_left(known: dict[str, Any]) -> str:
    parts = [
        f"{what} {_clock(part_s)}"
        for name, what in (("eta_evaluation_s", "validation"), ("eta_checkpoint_s", "saves"))
        if (part_s := known.pop(name, None))
    ]
    eta_s = known.pop("eta_s", None)
    if eta_s is None:
        return ""
    return f"ETA {_clock(eta_s)}" + (f" (of it {', '.join(parts)})" if parts else "")


def _clock(seconds: float) -> str:
    """h:mm:ss"""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_readable(value)}"
        for name, value in values.items()
        if value is not None and name != "step" and not isinstance(value, dict | list)
    )


def _readable(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _table(parts: Sequence[Mapping[str, Any]]) -> str:
    """Of `parameters.table_document`, with a line of sums."""
    cells: list[tuple[str, ...]] = [("part", "parameters", "trainable", "share")]
    cells += [
        (row["part"], f"{row['parameters']:,}", _trainable(row), f"{row['share']:.1%}")
        for row in parts
    ]
    sums = (f"{sum(row[key] for row in parts):,}" for key in ("parameters", "trainable"))
    cells.append(("all", *sums, ""))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        f"  {part:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row, widths[1:], strict=True))
        for part, *row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _trainable(row: Mapping[str, Any]) -> str:
    later = f" ({row['later']:,} later)" if row.get("later") else ""
    return f"{row['trainable']:,}{later}"


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
