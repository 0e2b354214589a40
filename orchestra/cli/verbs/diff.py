"""orchestra diff"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, emit_raw, say, table
from orchestra.cli.result import bold
from orchestra.formats import number
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from orchestra.schedule.code_changes import CodeChange, Commits, FileChange
    from orchestra.schedule.compare import Comparison, Row, Score

_COMMITS = 10
_OWN_COLUMNS = {"key", "split", "metric"}

Runs = Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")]
WholeCode = Annotated[bool, typer.Option("--code", help="The whole difference of the code.")]


def diff(
    context: typer.Context, runs: Runs, code: WholeCode = False, json: options.Json = False
) -> None:
    """Show what differs between runs: config, code, data, scores.

    Config, environment and data: only what differs. Code and commits: from the first run to each
    of the others, as git keeps them, uncommitted changes included. `*` marks the best score.

    \b
    Examples:
      orchestra diff base @last
      orchestra diff base tuned --code | less
      orchestra diff a b c --json | jq '.config[] | {key, values}'
    """
    from orchestra.registry.store import open_registry
    from orchestra.schedule.compare import compare, to_json
    from orchestra.schedule.listing import find_run

    workspace = workspace_of(context)
    ids = [find_run(workspace, run) for run in runs]
    with open_registry(workspace.runs) as registry:
        found = compare(workspace, registry, ids, whole_code=code)
    if json:
        emit_json(to_json(found))
    else:
        _page(found)


def _page(found: Comparison) -> None:
    for problem in found.problems:
        say(f"can't be read: {problem}")
    columns = _columns(found)
    for column, side in zip(columns, found.runs, strict=True):
        emit(f"{column}  {side.id}  {side.state}")
    _section("Config", found.config, columns)
    for change, column in zip(found.code, columns[1:], strict=True):
        _code(change, columns[0], column)
    _section("Environment", found.environment, columns)
    _section("Data", found.data, columns)
    _scores(found.scores, columns)
    _section("Curves, last values", found.finals, columns)


def _columns(found: Comparison) -> list[str]:
    """The runs' names, or their ids where those would not tell the columns of a table apart."""
    names = [clean(side.name) for side in found.runs]
    distinct = len(set(names)) == len(names) and _OWN_COLUMNS.isdisjoint(names)
    return names if distinct else [side.id for side in found.runs]


def _section(title: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    from orchestra.schedule.compare import value_text

    emit()
    emit_raw(bold(title))
    if not rows:
        emit("  no difference")
    table(
        [
            {"key": row.key, **dict(zip(columns, map(value_text, row.values), strict=True))}
            for row in rows
        ]
    )


def _code(change: CodeChange, first: str, other: str) -> None:
    emit()
    emit_raw(bold(f"Code, from {first} to {other}"))
    if change.same:
        emit("  no difference")
    if change.problem:
        emit(f"  {change.problem}")
    for commits, of in ((change.commits_added, other), (change.commits_removed, first)):
        _commits(commits, of)
    table([_file(file) for file in change.files], right=("added", "removed"))
    if change.patch is not None:
        emit()
        emit(change.patch)


def _commits(commits: Commits | None, of: str) -> None:
    if commits is None or not commits.count:
        return
    emit(f"  commits that only {of} has: {commits.count}")
    for line in commits.newest[:_COMMITS]:
        emit(f"    {clean(line)}")
    if commits.count > _COMMITS:
        emit("    ...")


def _file(file: FileChange) -> dict[str, str]:
    counts = (file.added, file.removed)
    added, removed = ("binary" if count is None else str(count) for count in counts)
    return {"added": added, "removed": removed, "file": file.path}


def _scores(scores: Sequence[Score], columns: Sequence[str]) -> None:
    emit()
    emit_raw(bold("Evaluations"))
    if not scores:
        emit("  none yet: `orchestra eval RUN --split SPLIT`")
    table([_score(score, columns) for score in scores], right=columns)


def _score(score: Score, columns: Sequence[str]) -> dict[str, str]:
    cells = [
        number(value) + ("*" if best else " ")
        for value, best in zip(score.values, score.best, strict=True)
    ]
    return {
        "split": score.split,
        "metric": score.metric,
        **dict(zip(columns, cells, strict=True)),
    }
