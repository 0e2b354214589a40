"""orchestra label"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, say
from orchestra.wire.errors import UsageError

if TYPE_CHECKING:
    from orchestra.schedule.labels import Labelled


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
    Of a parent run: all its members, which keep their names.
    """
    from orchestra.schedule.labels import relabel
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.parent import find_parent

    workspace = workspace_of(context)
    parent = find_parent(workspace, run)
    if parent is not None and name is not None:
        raise UsageError(f"--name is for one run; {parent.name} is a parent run of several")
    ids = [row.id for row in parent.members] if parent else [find_run(workspace, run)]
    done = [
        relabel(workspace, run_id, name=name, add=tag or (), drop=untag or (), remark=note)
        for run_id in ids
    ]
    if json:
        documents = [_document(each) for each in done]
        emit_json(documents if parent else documents[0])
        return
    asked = name is not None or tag or untag or note is not None
    for each in done:
        for text in each.changes or (("nothing to change",) if asked else ()):
            say(text)
        emit(f"{each.run_id}  {each.name}")
        if each.tags:
            emit(f"  tags  {', '.join(each.tags)}")
        if each.remark:
            emit(f"  note  {each.remark}")


def _document(done: Labelled) -> dict[str, Any]:
    return {
        "id": done.run_id,
        "name": done.name,
        "tags": list(done.tags),
        "note": done.remark,
        "changes": list(done.changes),
    }
