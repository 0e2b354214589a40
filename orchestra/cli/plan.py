"""What `run` and `clone` would do, for `--dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.cli.output import emit, say, table

if TYPE_CHECKING:
    from orchestra.schedule.submit import Plan


def print_plan(plan: Plan) -> None:
    """Print the plan as a table."""
    from orchestra.schedule.submit import plan_rows

    for note in plan.composed.notes:
        say(f"note: {note}")
    table([{"what": what, "plan": detail} for what, detail in plan_rows(plan)])
    emit()
    emit("Nothing was started (--dry-run).")
