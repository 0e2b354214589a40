"""Runs by a filter and an order, for `orchestra ls` and the monitor alike; SQLite does the work.

Loaded where a filter, an order or a column of the config is asked for; a plain `ls` needs none.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestra.registry.configs import config_document
from orchestra.schedule.query import (
    EVERYTHING,
    Expression,
    InStates,
    Sort,
    both,
    depends_on_time,
    parse,
    parse_sort,
)
from orchestra.schedule.query_fields import Field, field_named, unknown
from orchestra.schedule.query_sql import CONFIG_OF, Sql, condition, order, uses_config, value_of
from orchestra.wire.errors import UsageError
from orchestra.wire.states import LIVE, RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.registry.rows import RunRow
    from orchestra.registry.store import Registry
    from orchestra.wire.folders import RunsFolder

_NEWEST_FIRST = Sql("runs.sequence DESC")
_UNFINISHED = InStates((RunState.QUEUED, *sorted(LIVE)))


@dataclass(frozen=True)
class Selection:
    """Which runs, in which order (None: the newest first)."""

    filter: Expression = EVERYTHING
    sort: Sort | None = None

    @property
    def is_timed(self) -> bool:
        """Whether runs come to match, or cease to, as time goes by."""
        return depends_on_time(self.filter)


def selection(query: str = "", sort: str = "", states: Collection[RunState] = ()) -> Selection:
    """From what a user wrote; `states` narrow the filter.

    Raises:
        UsageError: the filter or the order can't be understood; the message tells why and where.
    """
    tree = parse(query)
    if states:
        tree = both(InStates(tuple(states)), tree)
    return Selection(tree, parse_sort(sort) if sort else None)


class Runs:
    """Reads runs of one registry. Keeps what it learnt from run folders: one for a long time."""

    def __init__(self, registry: Registry, folder: RunsFolder) -> None:
        self._registry = registry
        self._config_of = _config_reader(folder)

    def select(
        self, wanted: Selection, *, limit: int | None = None, offset: int = 0
    ) -> list[RunRow]:
        """The runs that are wanted, in their order."""
        where = condition(wanted.filter, time.time())
        by = order(wanted.sort) if wanted.sort else _NEWEST_FIRST
        self._prepare(where, by)
        return self._registry.select_runs(
            where.text,
            (*where.values, *by.values),
            order=by.text,
            limit=limit,
            offset=offset,
        )

    def newest_and_unfinished(self, wanted: Selection, *, limit: int) -> list[RunRow]:
        """The first `limit` of `select` and, after them, the others of them that have not ended."""
        first = self.select(wanted, limit=limit)
        if len(first) < limit:
            return first
        shown = {row.id for row in first}
        unfinished = Selection(both(_UNFINISHED, wanted.filter), wanted.sort)
        return [*first, *(row for row in self.select(unfinished) if row.id not in shown)]

    def count(self, wanted: Selection) -> int:
        """How many there are."""
        where = condition(wanted.filter, time.time())
        self._prepare(where)
        return self._registry.count_runs(where.text, where.values)

    def values(self, names: Sequence[str], run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What `cfg.KEY` and other fields are of these runs, by id; None where a run has none.

        Raises:
            UsageError: there is no such field.
        """
        pieces = [value_of(_field(name)) for name in names]
        if not pieces:
            return {}
        self._prepare(*pieces)
        parameters = [value for piece in pieces for value in piece.values]
        found = self._registry.select_values([p.text for p in pieces], parameters, run_ids)
        return {run_id: dict(zip(names, values, strict=True)) for run_id, values in found.items()}

    def _prepare(self, *pieces: Sql) -> None:
        if uses_config(*pieces):
            self._registry.define(CONFIG_OF, self._config_of)


def _config_reader(folder: RunsFolder) -> Callable[[str, str], str | None]:
    """The config of a run whose row has none: an older orchestra made it."""
    known: dict[tuple[str, str], str | None] = {}

    def config_of(run_id: str, sha256: str) -> str | None:
        if (run_id, sha256) not in known:
            known[run_id, sha256] = _read_config(folder, run_id)
        return known[run_id, sha256]

    return config_of


def _read_config(folder: RunsFolder, run_id: str) -> str | None:
    try:
        return config_document(folder.run(run_id).job.config.read_bytes())
    except (OSError, ValueError):  # ValueError: an id that is no file name
        return None


def _field(name: str) -> Field:
    found = field_named(name)
    if found is None:
        raise UsageError(unknown(name))
    return found
