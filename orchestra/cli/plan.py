"""What `run` and `clone` would do, for `--dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.cli.output import emit, say, table

if TYPE_CHECKING:
    from orchestra.schedule.submit import Plan


def print_plan(plan: Plan) -> None:
    """Print the plan as a table."""
    config = plan.composed.config
    launch = config.launch
    where = f"{launch.device}, {launch.nproc} rank{'s' if launch.nproc > 1 else ''}"
    for note in plan.composed.notes:
        say(f"note: {note}")
    rows = [
        ("task", f"{config.task.kind} ({plan.composed.task.folder})"),
        ("device", where),
        ("ends", ", ".join(f"{key} = {limit}" for key, limit in config.train.limits().items())),
        ("step", f"{config.batch.seconds:g} s in {config.batch.micro_batches} micro-batches"),
        ("seed", str(config.seed)),
        *([("changed", ", ".join(plan.composed.changed))] if plan.composed.changed else []),
        *((finding.what, finding.detail) for finding in plan.findings),
        ("config", f"sha256 {plan.composed.sha256}"),
    ]
    table([{"what": what, "plan": detail} for what, detail in rows])
    emit()
    emit("Nothing was started (--dry-run).")
