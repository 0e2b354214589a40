"""The metrics of a run: the newest value of each, or the points of some. Reads only."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from orchestra.registry.metrics import MetricStore, Point
from orchestra.wire.errors import NotFoundError
from orchestra.workspace import Workspace

_SOME = 8


@dataclass(frozen=True)
class Series:
    """One metric of a run; `points` by step, then attempt."""

    key: str
    points: list[Point]


def newest_values(workspace: Workspace, run_id: str) -> dict[str, Point]:
    """The newest point of each metric that no later attempt superseded; empty before the first."""
    with closing(MetricStore(workspace.runs.run(run_id).metrics)) as store:
        return store.last()


def series_of(
    workspace: Workspace, run_id: str, words: Iterable[str], *, most_points: int | None
) -> Iterator[Series]:
    """The metrics meant by each word: the one called so, else those that match it as a pattern
    (`*`), else those with it in their name. One after the other: they may be long.

    Raises:
        NotFoundError: a word means none; the message names some that there are.
    """
    with closing(MetricStore(workspace.runs.run(run_id).metrics)) as store:
        keys = store.keys()
        for key in dict.fromkeys(key for word in words for key in _meant(run_id, word, keys)):
            yield Series(key, store.series(key, max_points=most_points))


def _meant(run_id: str, word: str, keys: list[str]) -> list[str]:
    if word in keys:
        return [word]
    found = fnmatch.filter(keys, word) or [key for key in keys if word.lower() in key.lower()]
    if found:
        return found
    if not keys:
        raise NotFoundError(f"run {run_id} has no metrics yet: the first comes with its first step")
    more = ", ..." if len(keys) > _SOME else ""
    raise NotFoundError(
        f"run {run_id} has no metric {word!r}: there are {', '.join(keys[:_SOME])}{more}"
    )
