"""A filter's tree as a condition on the table `runs`; values are parameters, no part of the text.

Every condition is true or false, never NULL, so that `NOT` is the opposite. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestra.schedule.query import (
    And,
    Anywhere,
    Compares,
    Equals,
    Expression,
    Has,
    InStates,
    Matches,
    Not,
    Or,
    Pattern,
    Sort,
)
from orchestra.schedule.query_fields import Field, Kind

CONFIG_OF = "config_of"
"""SQL function (run id, config_sha256) -> the run's config in JSON, for rows without one."""

_COLUMNS = {
    "id": "runs.id",
    "name": "runs.name",
    "task": "runs.task",
    "upstream": "runs.upstream",
    "note": "runs.remark",
    "parent": "runs.parent",
    "member": "runs.member",
    "reason": "runs.reason",
    "branch": "runs.git_branch",
    "commit": "runs.git_commit",
    "host": "runs.host",
    "metric": "runs.metric",
    "tag": "runs.tags",
    "state": "runs.state",
    "dirty": "runs.git_dirty",
    "gpus": "runs.gpus",
    "priority": "runs.priority",
    "attempt": "runs.attempt",
    "step": "runs.step",
    "loss": "runs.loss",
    "score": "runs.score",
    "best": "runs.best_score",
    "age": "runs.created_at",
    "created": "runs.created_at",
    "started": "runs.started_at",
    "ended": "runs.ended_at",
}
_LIKE = "LIKE ? ESCAPE '\\'"
_CALLED = ("id", "name", "task", "upstream", "note")
_CONFIG = (
    "coalesce((SELECT document FROM configs WHERE configs.run_id = runs.id "
    f"AND configs.sha256 = runs.config_sha256), {CONFIG_OF}(runs.id, runs.config_sha256))"
)
# The newest result of that split which has the metric.
_RESULT = (
    "(SELECT json_extract(result.metrics, ?) FROM evaluations AS result "
    "WHERE result.run_id = runs.id AND result.split = ? "
    "AND json_extract(result.metrics, ?) IS NOT NULL ORDER BY result.number DESC LIMIT 1)"
)


@dataclass(frozen=True)
class Sql:
    """A piece of SQL and the values of its question marks, in order."""

    text: str
    values: tuple[Any, ...] = ()


def condition(tree: Expression, now_s: float) -> Sql:
    """What stands after WHERE. `now_s`: Unix time that ages are counted from."""
    match tree:
        case And(terms):
            return _joined(" AND ", [condition(term, now_s) for term in terms], "1")
        case Or(terms):
            return _joined(" OR ", [condition(term, now_s) for term in terms], "0")
        case Not(term):
            inner = condition(term, now_s)
            return Sql(f"NOT {inner.text}", inner.values)
        case Anywhere(pattern):
            like = _like(pattern, whole=False)
            each = [Sql(f"{_COLUMNS[name]} {_LIKE}", (like,)) for name in _CALLED]
            return _joined(" OR ", [*each, _tagged(_LIKE, like)])
        case InStates(states):
            marks = ", ".join("?" * len(states))
            return Sql(f"runs.state IN ({marks})", tuple(state.value for state in states))
        case Has(field):
            return _has(field)
        case Matches(field, pattern, number):
            return _matches(field, pattern, number)
        case Equals(field, text, number):
            return _equals(field, text, number)
        case Compares(field, operator, number):
            return _compares(field, operator, number, now_s)


def order(sort: Sort) -> Sql:
    """What stands after ORDER BY; among equals the newest comes first."""
    value = value_of(sort.field)
    descending = sort.descending != (sort.field.name == "age")  # the oldest has the highest age
    text = value.text
    if sort.field.kind in (Kind.TEXT, Kind.TAGS):
        empty = "'[]'" if sort.field.kind is Kind.TAGS else "''"
        text = f"nullif({text}, {empty}) COLLATE NOCASE"
    way = "DESC" if descending else "ASC"
    return Sql(f"{text} {way} NULLS LAST, runs.sequence DESC", value.values)


def uses_config(*pieces: Sql) -> bool:
    """Whether SQLite will call CONFIG_OF."""
    return any(CONFIG_OF in piece.text for piece in pieces)


def value_of(field: Field) -> Sql:
    """The field of a run; NULL where it has none."""
    if field.kind is Kind.VALUE:
        return Sql(f"json_extract({_CONFIG}, ?)", (_path(*field.key.split(".")),))
    if field.split:
        path = _path(field.key)
        return Sql(_RESULT, (path, field.split, path))
    return Sql(_COLUMNS[field.name])


def _path(*keys: str) -> str:
    """A JSON path; neither quotes nor backslashes are in a key."""
    return "$" + "".join(f'."{key}"' for key in keys)


def _has(field: Field) -> Sql:
    value = value_of(field)
    if field.kind is Kind.TAGS:
        return Sql(f"({value.text} != '[]')")
    if field.kind is Kind.TEXT:
        return Sql(f"coalesce({value.text} != '', 0)")
    if field.kind is Kind.FLAG:
        return Sql(f"coalesce({value.text}, 0)")
    return Sql(f"({value.text} IS NOT NULL)", value.values)


def _matches(field: Field, pattern: Pattern, number: float | None) -> Sql:
    like = _like(pattern, whole=pattern.wild)
    if field.kind is Kind.TAGS:
        return _tagged(_LIKE, like)
    if field.kind is Kind.VALUE:
        # LIKE alone would take numbers too, as SQLite writes them.
        text = f"typeof(v) = 'text' AND v {_LIKE}"
        if number is None:
            return _of_config(field, text, like)
        return _of_config(field, f"v IS ? OR {text}", number, like)
    value = value_of(field)
    return Sql(f"coalesce({value.text} {_LIKE}, 0)", (*value.values, like))


def _equals(field: Field, text: str, number: float | None) -> Sql:
    if field.kind is Kind.TAGS:
        return _tagged("= ?", text)
    if field.kind is Kind.VALUE and number is not None:
        return _of_config(field, "v IS ? OR v IS ?", number, text)
    value = value_of(field)
    return Sql(f"({value.text} IS ?)", (*value.values, text if number is None else number))


def _compares(field: Field, operator: str, number: float, now_s: float) -> Sql:
    if field.kind is Kind.VALUE:
        # To SQLite any text is more than any number.
        numeric = "typeof(v) IN ('integer', 'real')"
        return _of_config(field, f"{numeric} AND v {operator} ?", number)
    value = value_of(field)
    if field.kind is Kind.TIME:
        return Sql(f"coalesce(? - {value.text} {operator} ?, 0)", (now_s, number))
    return Sql(f"coalesce({value.text} {operator} ?, 0)", (*value.values, number))


def _of_config(field: Field, test: str, *values: Any) -> Sql:
    """Whether `v`, the value in the config, passes."""
    value = value_of(field)
    # With a LIMIT, SQLite does not put the slow extraction in the place of each v.
    found = f"(SELECT {value.text} AS v LIMIT 1)"
    return Sql(f"(SELECT {test} FROM {found})", (*values, *value.values))


def _tagged(test: str, value: str) -> Sql:
    """Whether one of the tags passes; most runs have none."""
    each = f"EXISTS (SELECT 1 FROM json_each(runs.tags) AS tag WHERE tag.value {test})"
    return Sql(f"(runs.tags != '[]' AND {each})", (value,))


def _like(pattern: Pattern, *, whole: bool) -> str:
    """For LIKE with a backslash as escape."""
    text = re.sub(r"([\\%_])", r"\\\1", pattern.text)
    if pattern.wild:
        text = re.sub(r"\*+", "%", text).replace("?", "_")
    return text if whole else f"%{text}%"


def _joined(word: str, pieces: Sequence[Sql], empty: str = "") -> Sql:
    if not pieces:
        return Sql(empty)
    text = word.join(piece.text for piece in pieces)
    return Sql(f"({text})", tuple(value for piece in pieces for value in piece.values))
