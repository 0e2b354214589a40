"""`python -m tests.benchmarks [NAME ...]`: measure, print one table; never a pass or a fail.

Without a name all are measured but those that take minutes each (LONG). Bars stand beside the
numbers. Compare ratios within one run: the machine may be shared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.benchmarks import (
    batches,
    bookkeeping,
    cli_start,
    curves,
    deaths,
    evaluation_ranks,
    feature_cache,
    first_step,
    hang,
    heartbeat,
    leases,
    logs,
    many_runs,
    padding,
    plan,
    restart,
    save,
    selection,
    supervisor_cost,
    task_new,
    tasks,
    throughput,
    tui,
    tui_day,
)
from tests.benchmarks.table import Row, print_table

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "batches": batches.measure,
    "heartbeat": heartbeat.measure,
    "leases": leases.measure,
    "logs": logs.measure,
    "plan": plan.measure,
    "bookkeeping": bookkeeping.measure,
    "save": save.measure,
    "cli_start": cli_start.measure,
    "selection": selection.measure,
    "curves": curves.measure,
    "tui": tui.measure,
    "first_step": first_step.measure,
    "evaluation_ranks": evaluation_ranks.measure,
    "feature_cache": feature_cache.measure,
    "throughput": throughput.measure,
    "task_new": task_new.measure,
    "restart": restart.measure,
    "hang": hang.measure,
    "supervisor_cost": supervisor_cost.measure,
    "tasks": tasks.measure,
    "padding": padding.measure,
    "deaths": deaths.measure,
    "deaths_standins": deaths.measure_standins,
    "many_runs": many_runs.measure,
    "tui_day": tui_day.measure,
}
LONG = ("tasks", "padding", "deaths", "deaths_standins", "many_runs", "tui_day")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    names: list[str] = parser.parse_args().names or [
        name for name in BENCHMARKS if name not in LONG
    ]
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"no benchmark {unknown[0]!r}: there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr)
        rows += BENCHMARKS[name]()
    print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
