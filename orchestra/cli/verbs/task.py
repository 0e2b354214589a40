"""orchestra task new|check: a task from the template; a task held against its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, say, table
from orchestra.cli.program import run_program

HELP = """Make a task of your own, check that it keeps the contract.

\b
Examples:
  orchestra task new mine
  orchestra run mine --cpu
  orchestra task check mine
"""
_SIGNS = {"ok": "ok", "broken": "BROKEN", "skipped": "-"}


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits and _.")],
    json: options.Json = False,
) -> None:
    """Make a task that runs, its preset, its test and a tiny corpus.

    Written are tasks/NAME, presets/NAME.toml, tests/tasks/test_NAME.py and data/NAME: a working
    classification of recordings, to be changed into what you want.

    \b
    Examples:
      orchestra task new mine
      orchestra task new mine && python -m pytest tests/tasks/test_mine.py
    """
    from orchestra.schedule.new_task import new_task

    workspace = workspace_of(context)
    made = new_task(workspace, name)
    for note in made.notes:
        say(f"note: {note}")
    if json:
        files = [str(path) for path in made.files]
        emit_json({"name": name, "files": files, "corpus": str(made.corpus), "notes": made.notes})
        return
    for path in (*made.files, made.corpus):
        emit(str(path.relative_to(workspace.root)))
    say(
        f"now: `orchestra run {name} --cpu`, `python -m pytest tests/tasks/test_{name}.py` (needs "
        f"pytest), `orchestra task check {name}`; start with tasks/{name}/README.md"
    )


def check(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="NAME", help="See `orchestra tasks`.")],
    upstream: Annotated[
        str | None, typer.Option(metavar="U", help="Default: fbank, which needs no download.")
    ] = None,
    preset: options.Presets = None,
    set_: options.Sets = None,
    json: options.Json = False,
) -> NoReturn:
    """Hold a task against the contract that runs rely on.

    Ids, waveforms, loss, predictions, score, ranks, resume: on a few utterances and in a few steps,
    on the CPU, of its tiny corpus (tiny.py), or of data that a preset or --set name. `processes`
    starts two ranks as torchrun would; all other rules look at one process. What shows only after
    many steps or in rare utterances is not found. Exits with 1 if a rule is broken.

    \b
    Examples:
      orchestra task check mine
      orchestra task check asr -p digits --set data.manifests=data/digits
      orchestra task check mine --json | jq '.findings[] | .rule, .state'
    """
    from tempfile import TemporaryDirectory

    from orchestra.schedule.check_task import plan_check

    root = workspace_of(context).root
    with TemporaryDirectory(prefix="orchestra-") as name:
        folder = Path(name)
        planned = plan_check(
            task,
            root,
            folder,
            presets=tuple(preset or ()),
            upstream=upstream,
            sets=tuple(set_ or ()),
        )
        for note in planned.composed.notes:
            say(f"note: {note}")
        config = folder / "config.toml"
        config.write_bytes(planned.composed.toml)
        run_program(planned.command(config, root), json=json, show=_show)


def _show(document: dict[str, Any]) -> None:
    table(
        [
            {"rule": found["rule"], "found": _SIGNS[found["state"]], "what": found["text"]}
            for found in document["findings"]
        ]
    )
    broken = [found for found in document["findings"] if found["state"] == "broken"]
    for found in broken:
        emit(f"\n{found['rule']}: {found['text']}\n  the rule: {found['claim']}")
    verdict = f"breaks {len(broken)} rules" if broken else "keeps the contract"
    emit(f"\n{document['task']} {verdict} ({document['folder']}, {document['upstream']})")


VERBS = {"new": new, "check": check}
