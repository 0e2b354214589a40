"""What differs between runs: `orchestra diff` and the monitor's compare screen.

Reads the registry, run folders and git; changes nothing. A part that is damaged or missing is told
as a problem and leaves the rest as it is.
"""

from __future__ import annotations

import json
import math
import sqlite3
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestra.registry.metrics import MetricStore
from orchestra.registry.store import Registry
from orchestra.schedule.code_changes import Code, CodeChange, code_change
from orchestra.schedule.describe import describe
from orchestra.wire.checkpoints import manifests
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.files import read_json
from orchestra.wire.folders import RunFolder
from orchestra.workspace import Workspace

_ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Side:
    """One of the runs."""

    id: str
    name: str
    state: str


@dataclass(frozen=True)
class Row:
    """One key and its value in each run, in their order; None: that run has none."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Score:
    """One metric of one split, of each run's newest evaluation of it."""

    split: str
    metric: str
    direction: str | None
    """"min" or "max": which is better; None: not on record."""
    values: tuple[float | None, ...]
    steps: tuple[int | None, ...]
    """Of the checkpoints that were evaluated."""
    best: tuple[bool, ...]
    """Where two runs or more have a number: who has the best, all of equals."""


@dataclass(frozen=True)
class Comparison:
    """Everything. Rows of config, environment and data are those that differ."""

    runs: tuple[Side, ...]
    config: tuple[Row, ...]
    code: tuple[CodeChange, ...]
    """From the first run to each of the others."""
    environment: tuple[Row, ...]
    data: tuple[Row, ...]
    scores: tuple[Score, ...]
    finals: tuple[Row, ...]
    """The last value of each curve."""
    problems: tuple[str, ...]


@dataclass
class _Read:
    """What is on record of one run."""

    document: dict[str, Any]
    config: dict[str, Any]
    provenance: dict[str, Any]
    finals: dict[str, Any]
    directions: dict[str, str]


def compare(
    workspace: Workspace, registry: Registry, run_ids: Sequence[str], *, whole_code: bool = False
) -> Comparison:
    """Runs by their exact ids.

    Raises:
        UsageError: fewer than two different runs.
        NotFoundError: no such run.
    """
    ids = list(dict.fromkeys(run_ids))
    if len(ids) < 2:
        raise UsageError("name two different runs or more: `orchestra diff A B`")
    problems: list[str] = []
    found = [_read(workspace, registry, run_id, problems) for run_id in ids]
    codes = [_code(each.provenance) for each in found]
    changes = [code_change(workspace.root, codes[0], code, whole=whole_code) for code in codes[1:]]
    return Comparison(
        runs=tuple(_side(each.document) for each in found),
        config=_different([flat(each.config) for each in found]),
        code=tuple(changes),
        environment=_different([flat(each.provenance.get(_ENVIRONMENT, {})) for each in found]),
        data=_different([_data(each.document) for each in found]),
        scores=tuple(_scores(found)),
        finals=_rows([each.finals for each in found]),
        problems=tuple(problems),
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """One document; `values` stand in the order of `runs`, null where a run has none."""
    document = asdict(comparison)
    for change, other in zip(document["code"], comparison.runs[1:], strict=True):
        change |= {"from": comparison.runs[0].id, "to": other.id}
    return document


def value_text(value: Any) -> str:
    """A value of a `Row` for people."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key; lists are values."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _read(workspace: Workspace, registry: Registry, run_id: str, problems: list[str]) -> _Read:
    document = describe(workspace, registry, run_id)
    run = workspace.runs.run(run_id)

    def part(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return read()
        except (OrchestraError, OSError, ValueError, sqlite3.Error) as error:
            problems.append(f"{document['name']}: {error}")
            return {}

    return _Read(
        document=document,
        config=part(lambda: tomllib.loads(run.job.config.read_text(encoding="utf-8"))),
        provenance=part(lambda: dict(read_json(run.provenance))),
        finals=part(lambda: _finals(run.metrics)),
        directions=_directions(run, document),
    )


def _side(document: Mapping[str, Any]) -> Side:
    return Side(document["id"], document["name"], document["state"])


def _code(provenance: Mapping[str, Any]) -> Code:
    return Code(*(str(provenance.get(key) or "") for key in ("commit", "tree", "code")))


def _finals(path: Path) -> dict[str, float]:
    store = MetricStore(path)
    try:
        return {key: point.value for key, point in store.last().items()}
    finally:
        store.close()


def _directions(run: RunFolder, document: Mapping[str, Any]) -> dict[str, str]:
    """Which numbers are better, by metric; evaluations of older versions do not tell."""
    found: dict[str, str] = {}
    for manifest in manifests(run.checkpoints):
        if manifest.direction:
            found[manifest.metric] = manifest.direction
    for row in document["evaluations"]:
        found |= row["directions"] or {}
    return found


def _data(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the splits hold, and the hash of those that were evaluated."""
    found = flat(document["data"])
    for row in document["evaluations"]:
        if row["manifest_sha256"]:
            found[f"{row['split']}.manifest_sha256"] = row["manifest_sha256"]
    return found


def _rows(tables: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    keys = dict.fromkeys(key for table in tables for key in table)
    return tuple(Row(key, tuple(table.get(key) for table in tables)) for key in sorted(keys))


def _different(tables: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    # By their text: 1 and 1.0 or true are not the same value of a config.
    return tuple(row for row in _rows(tables) if len({repr(value) for value in row.values}) > 1)


def _scores(found: Sequence[_Read]) -> Iterable[Score]:
    """Metrics as the tasks declare them; all of an evaluation that declares none."""
    newest = [_newest_evaluations(each.document) for each in found]
    directions: dict[str, str] = {}
    for each in found:
        directions |= each.directions
    for split in dict.fromkeys(split for rows in newest for split in rows):
        rows = [by_split.get(split) for by_split in newest]
        for metric in dict.fromkeys(name for row in rows if row for name in _declared(row)):
            values = tuple(row["metrics"].get(metric) if row else None for row in rows)
            direction = directions.get(metric)
            steps = tuple(row["checkpoint_step"] if row else None for row in rows)
            yield Score(split, metric, direction, values, steps, best_of(values, direction))


def _newest_evaluations(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["split"]: row for row in document["evaluations"] if row["metrics"]}


def _declared(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row["declared"] or () if name in row["metrics"]] or sorted(
        row["metrics"]
    )


def best_of(values: Sequence[float | None], direction: str | None) -> tuple[bool, ...]:
    """Which of them are the best; none where there is nothing to choose from."""
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    if direction not in ("min", "max") or len(numbers) < 2:
        return (False,) * len(values)
    best = min(numbers) if direction == "min" else max(numbers)
    return tuple(value == best for value in values)
