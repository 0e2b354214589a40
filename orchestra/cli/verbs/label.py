"""orchestra label"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, say


def label(
    context: typer.Context,
    run: options.Run,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another name; its id stays.")
    ] = None,
    tag: options.Tags = None,
    untag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Take a tag away; repeatable.")
    ] = None,
    note: options.Note = None,
    json: options.Json = False,
) -> None:
    """Rename a run, tag it, write a note to it.
    Without options: print what it has.

    \b
    Examples:
      orchestra label h7k2 --name wavlm-final
      orchestra label @last --tag paper --tag table2 --untag draft
      orchestra label h7k2 --note 'lr too high, loss rises after 4k steps'
      orchestra label h7k2 --note ''   # takes the note away
      orchestra ls tag:paper

    It may be at work meanwhile. The id, the folder and the frozen config stay as they are.
    """
    from orchestra.schedule.labels import relabel
    from orchestra.schedule.listing import find_run

    workspace = workspace_of(context)
    done = relabel(
        workspace,
        find_run(workspace, run),
        name=name,
        add=tag or (),
        drop=untag or (),
        remark=note,
    )
    if json:
        emit_json(
            {
                "id": done.run_id,
                "name": done.name,
                "tags": list(done.tags),
                "note": done.remark,
                "changes": list(done.changes),
            }
        )
        return
    asked = name is not None or tag or untag or note is not None
    for text in done.changes or (("nothing to change",) if asked else ()):
        say(text)
    emit(f"{done.run_id}  {done.name}")
    if done.tags:
        emit(f"  tags  {', '.join(done.tags)}")
    if done.remark:
        emit(f"  note  {done.remark}")
