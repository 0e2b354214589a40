"""How `data stats` prints the plan that orchestra.data.stats made of a training split."""

from __future__ import annotations

from typing import Any

from orchestra.cli.output import emit, table
from orchestra.formats import number

_NAMED = 20


def print_batch_plan(document: dict[str, Any]) -> None:
    """The split, its plan, the buckets, and what is too long."""
    batch, lengths = document["batch"], document["percentiles_s"]
    step_s = document["step_seconds"]
    longest = ", ".join(_named(row) for row in document["longest"])
    percentiles = ", ".join(f"{_percentile(p)} {lengths[p]:.1f}" for p in lengths)
    rows = [
        ("split", f"{document['split']} ({document['task']})"),
        ("seed", str(document["seed"])),
        ("utterances", f"{document['utterances']}, {document['seconds'] / 3600:.2f} h"),
        ("lengths, s", percentiles),
        ("longest", longest),
        (
            "a step",
            f"{number(batch['seconds'])} s asked for in {batch['micro_batches']} micro-batches "
            f"of {number(document['target_s'])} s, at most {number(batch['max_micro_seconds'])} s",
        ),
        (
            "planned",
            f"{step_s['mean']:.1f} s on average, from {step_s['min']:.1f} to {step_s['max']:.1f} s",
        ),
        (
            "an epoch",
            f"{document['steps']} steps, {document['micro_batches']} micro-batches",
        ),
        ("padding", _percent(document["padding"])),
        ("fill", _fill(document)),
        (
            "neighbours",
            f"{_percent(document['shared_neighbours'])} of the pairs in a micro-batch meet again "
            "in the next epoch",
        ),
    ]
    table([{"what": what, "plan": detail} for what, detail in rows])
    emit()
    table(
        [_bucket(row) for row in document["buckets"]],
        right=["length, s", "utterances", "micro-batches", "padding", "fill"],
    )
    if document["too_long"]:
        emit()
        emit(_too_long(document))


def _fill(document: dict[str, Any]) -> str:
    """Padded audio relative to what was asked for: it may be more, up to the cap."""
    share_s = number(document["target_s"])
    text = f"{_percent(document['fill'])} of the {share_s} s of a micro-batch, padding included"
    if document["fill"] > 1:
        text += "; one may have more, up to batch.max_micro_seconds"
    if document["too_long"]:
        text += "; what is longer than that is counted too"
    return text


def _bucket(row: dict[str, Any]) -> dict[str, str]:
    return {
        "length, s": f"{row['shortest_s']:.2f} - {row['longest_s']:.2f}",
        "utterances": str(row["utterances"]),
        "micro-batches": str(row["micro_batches"]),
        "padding": _percent(row["padding"]),
        "fill": _percent(row["fill"]),
    }


def _too_long(document: dict[str, Any]) -> str:
    rows, batch = document["too_long"], document["batch"]
    shown = ", ".join(_named(row) for row in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED} more (--json lists them)" if len(rows) > _NAMED else ""
    if batch["too_long"] == "isolate":
        fate = "each has a micro-batch of its own"
    else:
        fate = '`run` will refuse them: raise it, cut them, or set batch.too_long="isolate"'
    cap = f"batch.max_micro_seconds = {number(batch['max_micro_seconds'])}"
    return f"{len(rows)} longer than {cap}; {fate}: {shown}{more}"


def _named(row: dict[str, Any]) -> str:
    return f"{row['id']} ({row['seconds']:.1f} s)"


def _percentile(percent: str) -> str:
    return {"0": "min", "50": "median", "100": "max"}.get(percent, f"{percent} %")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
