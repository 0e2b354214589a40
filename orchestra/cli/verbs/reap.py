"""orchestra reap"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.output import can_ask, emit_json, say, table
from orchestra.formats import duration, size
from orchestra.wire.errors import UsageError
from orchestra.wire.exit_codes import ExitCode

if TYPE_CHECKING:
    from orchestra.schedule.reap import Findings, Leftover, Stranger


def reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List only.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: options.Json = False,
) -> None:
    """Kill processes that dead runs of yours left behind.
    What else looks orphaned on GPUs is listed.

    \b
    Examples:
      orchestra reap --dry-run
      orchestra reap --yes

    They are found on the whole machine by the tag in their environment, and killed only if no
    supervisor owns their run. What can't be decided and what is not yours is never killed.
    """
    from orchestra.schedule.reap import find
    from orchestra.schedule.reaping import reap_shown

    findings = find()
    if not json:
        _show(findings)
    wanted = bool(findings.dead) and not dry_run and _confirmed(findings, yes=yes)
    reaped = reap_shown(findings) if wanted else None
    leftovers = reaped.leftovers if reaped else ()
    if json:
        killed = reaped.killed if reaped else 0
        emit_json({**findings.to_json(), "killed": killed, "leftovers": list(leftovers)})
    elif reaped:
        say(f"killed {reaped.killed}")
    for leftover in leftovers:
        say(f"could not be killed: {leftover}")
    if leftovers or (findings.dead and not dry_run and not wanted):
        raise typer.Exit(ExitCode.FAILED)


def _show(findings: Findings) -> None:
    rows = [_row("dead", item) for item in findings.dead]
    rows += [_row("not killed", item) for item in findings.unknown]
    table(rows, right=("pid", "age", "gpu"))
    if findings.strangers:
        say("GPU processes that look orphaned and are not ours: never killed")
        table([_stranger(item) for item in findings.strangers], right=("pid", "age", "gpu"))
    if not findings.dead:
        say("dead runs of yours have left no process")


def _row(fate: str, item: Leftover) -> dict[str, str]:
    return {
        "fate": fate,
        "run": item.run_id,
        "pid": str(item.pid),
        "age": duration(item.age_s),
        "gpu": _memory(item.gpu_bytes),
        "why": item.verdict.why,
        "tag": item.tag,
        "command": item.command[:120],
    }


def _stranger(item: Stranger) -> dict[str, str]:
    return {
        "user": item.user,
        "pid": str(item.pid),
        "age": duration(item.age_s),
        "gpu": _memory(item.gpu_bytes),
        "why": item.why,
        "command": item.command[:120],
    }


def _memory(count: int | None) -> str:
    return "-" if count is None else size(count)


def _confirmed(findings: Findings, *, yes: bool) -> bool:
    """Whether the user wants them dead (UsageError where nobody can be asked)."""
    count = len(findings.dead)
    what = f"{count} process{'' if count == 1 else 'es'} of dead runs"
    if yes:
        return True
    if not can_ask():
        raise UsageError(f"no terminal to ask at: --yes kills {what}, --dry-run lists them")
    say(f"kill {what}? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
