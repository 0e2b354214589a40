"""orchestra metrics"""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit_json, is_terminal, say, table
from orchestra.formats import ago, number
from orchestra.wire.errors import UsageError
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestra.registry.metrics import Point
    from orchestra.schedule.series import Series

_SCREENFUL = 20
_COLUMNS = ("key", "step", "value", "time", "attempt", "superseded")


def metrics(
    context: typer.Context,
    run: options.Run,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="A metric, a pattern (*), or a part of its name."),
    ] = None,
    json: options.Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Every point as a line of CSV.")] = False,
    points: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="About N points of each, at even steps; default: all, in a table 20.",
        ),
    ] = None,
) -> None:
    """Print the newest values of a run's metrics, or the points.

    A point is superseded if a later attempt restarted before it. In JSON what is not finite is
    null; in CSV it is `nan` or `inf`. Times are Unix times.

    \b
    Examples:
      orchestra metrics @last
      orchestra metrics @last train/loss --points 50
      orchestra metrics asr-wavlm-h7k2 wer cer --csv > scores.csv
      orchestra metrics @last 'train/*' --json | jq '.series[0].points[-1]'
    """
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.series import newest_values, series_of

    if json and as_csv:
        raise UsageError("--json contradicts --csv")
    workspace = workspace_of(context)
    run_id = find_run(workspace, run)
    if not keys and not as_csv:
        _print_newest(run_id, newest_values(workspace, run_id), json=json)
        return
    most = points or (None if json or as_csv else _SCREENFUL)
    found = series_of(workspace, run_id, keys or ["*"], most_points=most)
    if as_csv:
        _print_csv(found)
    elif json:
        emit_json({"run": run_id, "series": [_document(series) for series in found]})
    else:
        _print_points(found)
        if points is None:
            say(f"about {most} points of each; --points N shows more, --csv and --json all")


def _print_newest(run_id: str, newest: dict[str, Point], *, json: bool) -> None:
    if json:
        found = [{"key": key, **_point(point)} for key, point in newest.items()]
        emit_json({"run": run_id, "metrics": found})
    elif not newest:
        say("no metrics yet: the first comes with the first step that is logged")
    else:
        rows = [
            {
                "metric": key,
                "value": number(point.value),
                "step": str(point.step),
                "attempt": str(point.attempt),
                "recorded": ago(point.time_s),
            }
            for key, point in newest.items()
        ]
        table(rows, right=("value", "step", "attempt"))


def _print_points(found: Iterable[Series]) -> None:
    rows = [
        {
            "metric": series.key,
            "step": str(point.step),
            "value": number(point.value),
            "attempt": str(point.attempt),
            "recorded": ago(point.time_s),
            "": "superseded" if point.superseded else "",
        }
        for series in found
        for point in series.points
    ]
    table(rows, right=("step", "value", "attempt"))


def _print_csv(found: Iterable[Series]) -> None:
    """Names as they are in a file, harmless on a terminal."""
    harmless = is_terminal(sys.stdout)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for series in found:
        key = clean(series.key) if harmless else series.key
        writer.writerows(
            (key, one.step, one.value, one.time_s, one.attempt, int(one.superseded))
            for one in series.points
        )


def _document(series: Series) -> dict[str, Any]:
    return {"key": series.key, "points": [_point(point) for point in series.points]}


def _point(point: Point) -> dict[str, Any]:
    return {
        "step": point.step,
        "value": point.value,
        "time": point.time_s,
        "attempt": point.attempt,
        "superseded": point.superseded,
    }
