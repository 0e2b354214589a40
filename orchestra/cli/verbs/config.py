"""orchestra config show|explain|schema"""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, say, table

if TYPE_CHECKING:
    from orchestra.config.compose import Composed
    from orchestra.workspace import Workspace

HELP = """Look at configs: values, where they came from, all keys.

\b
Examples:
  orchestra config show asr --preset asr-demo
  orchestra config explain optim.lr @last
  orchestra config schema asr
"""
Target = Annotated[str, typer.Argument(metavar="TASK|RUN", help="A task to compose for, or a run.")]


def show(
    context: typer.Context,
    target: Target,
    preset: options.Presets = None,
    upstream: options.Upstream = None,
    set_: options.Sets = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="Key by key, with where each value came from.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Print the config that `run TASK` would freeze or RUN has frozen.

    \b
    Examples:
      orchestra config show asr --preset asr-demo --set optim.lr=1e-3
      orchestra config show @last
      orchestra config show @last --json | jq .optim
      orchestra config show @last --origins
    """
    composed = _composed(workspace_of(context), target, preset, upstream, set_)
    _say_notes(composed)
    if origins:
        _show_origins(composed, json=json)
    elif json:
        emit_json(composed.config.model_dump(mode="json", exclude_none=True))
    else:
        emit(composed.toml.decode().rstrip("\n"))


def explain(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Such as optim.lr.")],
    target: Target = "@last",
    preset: options.Presets = None,
    upstream: options.Upstream = None,
    set_: options.Sets = None,
    json: options.Json = False,
) -> None:
    """Tell what a key means, its value, and what has set it.

    \b
    Examples:
      orchestra config explain optim.lr                    of the newest run
      orchestra config explain batch.seconds h7k2
      orchestra config explain optim.lr asr --preset asr-demo
    """
    from orchestra.config.explain import explain as service

    composed = _composed(workspace_of(context), target, preset, upstream, set_)
    found = service(composed, key)
    settings = [(item.key, item.value, item.origin) for item in found.settings]
    if json:
        emit_json(
            {
                "key": found.key,
                "value": found.value,
                "origin": found.origin,
                "description": found.description,
                "settings": [
                    {"key": name, "value": value, "origin": origin}
                    for name, value, origin in settings
                ],
            }
        )
        return
    if found.description:
        emit(found.description)
    if found.origin:
        emit(f"{key} = {found.value!r}  ({found.origin})")
    for name, value, origin in settings:
        emit(f"  {name} = {value!r}  from {origin}")


def schema(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help="See `orchestra tasks`.")],
) -> None:
    """Print the JSON Schema of a task's presets, for editors.

    \b
    Examples:
      orchestra config schema asr > asr.schema.json
    """
    from orchestra.config.explain import json_schema
    from orchestra.tasks import find_task

    emit_json(json_schema(find_task(task, workspace_of(context).root)))


def _composed(
    workspace: Workspace,
    target: str,
    preset: list[str] | None,
    upstream: str | None,
    sets: list[str] | None,
) -> Composed:
    """Of a task: as `run` would compose it. Of a run: its frozen config."""
    from orchestra.config.compose import Request, compose
    from orchestra.schedule.frozen import frozen_config
    from orchestra.tasks import find_task
    from orchestra.wire.errors import NotFoundError, UsageError

    try:
        find_task(target, workspace.root)
    except NotFoundError:
        pass  # a run
    else:
        return compose(
            Request(
                workspace.root,
                target,
                presets=tuple(preset or ()),
                upstream=upstream,
                sets=tuple(sets or ()),
            )
        )
    if preset or upstream:
        raise UsageError(
            f"--preset and --upstream compose for a task; {target!r} is none (`orchestra tasks`)"
        )
    return frozen_config(workspace, target, tuple(sets or ()))


def _show_origins(composed: Composed, *, json: bool) -> None:
    from orchestra.schedule.compare import value_text
    from orchestra.schedule.frozen_keys import keys_of

    found = keys_of(tomllib.loads(composed.toml.decode()), composed.origins)
    if json:
        emit_json([asdict(each) for each in found])
    else:
        table(
            [
                {"key": each.key, "value": value_text(each.value), "from": each.origin or "-"}
                for each in found
            ]
        )


def _say_notes(composed: Composed) -> None:
    for note in composed.notes:
        say(f"note: {note}")


VERBS = {"show": show, "explain": explain, "schema": schema}
