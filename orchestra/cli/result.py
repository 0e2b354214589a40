"""The end of a job for people: verdict, metrics, where everything lies."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestra.cli.output import emit, emit_raw, is_terminal, paint, paint_state, say
from orchestra.formats import number
from orchestra.wire.states import RunState
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.watch import View
    from orchestra.wire.folders import RunFolder
    from orchestra.workspace import Workspace

_PIPE_COLUMNS = 100


def print_result(workspace: Workspace, view: View, since_s: float) -> None:
    """Metrics of the evaluation, or of those of the run that ended since a Unix time, on stdout."""
    from orchestra.registry.store import open_registry
    from orchestra.schedule.describe import describe

    with open_registry(workspace.runs) as registry:
        document = describe(workspace, registry, view.key.run_id)
    rows = [row for row in document["evaluations"] if _is_meant(row, view, since_s)]
    print_evaluations(rows, document["metric"])
    if view.key.evaluation is None:
        for split, counts in document["data"].items():
            words = f", {counts['words']} distinct words" if counts["words"] else ""
            emit(f"{split}: {counts['count']} utterances, {counts['seconds'] / 60:.1f} min{words}")
        if skipped := document["progress"]["skipped"]:
            emit(f"skipped {number(skipped)} steps (not finite): `orchestra replay {view.run.id}`")
    emit(f"run {document['id']} ({document['name']}) in {document['folders']['run']}")
    if view.state != RunState.COMPLETED:
        say(f"{view.state.value}: {view.reason}" if view.reason else view.state.value)
        if view.state == RunState.FAILED:
            say(_what_to_do(workspace.runs.run(view.key.run_id), view.key))


def _is_meant(row: dict[str, Any], view: View, since_s: float) -> bool:
    if view.key.evaluation is not None:
        return bool(row["number"] == view.key.evaluation)
    return row["ended_at"] is not None and bool(row["ended_at"] >= since_s)


def print_evaluations(evaluations: Sequence[dict[str, Any]], metric: str | None) -> None:
    """A line per evaluation; below it the metrics that the task declares, the run's own first."""
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else _PIPE_COLUMNS
    for row in evaluations:
        state = row["state"]
        words = [f"eval {row['number']}", bold(clean(row["split"])), clean(_checkpoint(row))]
        emit_raw("  ".join([*words, paint_state(state)]))
        if row["real_time_factor"] is not None and not row["metrics"]:
            emit(f"  no labels: predictions in {row['predictions']}")
        numbers = [f"{name}\xa0{number(row['metrics'][name])}" for name in _shown(row, metric)]
        if row["real_time_factor"] is not None:
            numbers.append(f"real-time\xa0factor\xa0{number(row['real_time_factor'], 3)}")
            numbers.append(f"{number(row['seconds_per_utterance'], 3)}\xa0s\xa0per\xa0utterance")
        for line in textwrap.wrap("  ".join(numbers), width, break_long_words=False):
            emit(f"  {line}".replace("\xa0", " "))


def _shown(row: dict[str, Any], metric: str | None) -> list[str]:
    """Names of the metrics for people; all of an evaluation that names none as declared."""
    metrics = row["metrics"]
    declared = [name for name in row["declared"] or () if name in metrics] or sorted(metrics)
    own = [metric] if metric in metrics else []
    return [*own, *(name for name in declared if name != metric)]


def _what_to_do(run: RunFolder, key: JobKey) -> str:
    """After a failure. A run is resumed, an evaluation is asked for anew."""
    logs = f"look at `orchestra logs {run.id}"
    if key.evaluation is not None:
        return f"{logs} --eval {key.evaluation}`"
    resume = f"`orchestra resume {run.id}"
    if _is_of_config(run):
        return f"{logs}`; {resume} --set KEY=VALUE`, or submit a corrected run"
    return f"{logs}`; {resume}`"


def _is_of_config(run: RunFolder) -> bool:
    """Whether the last attempt failed with what the same config would fail with again."""
    from orchestra.wire.errors import OrchestraError
    from orchestra.wire.exit_codes import ExitCode
    from orchestra.wire.failures import read_failures

    try:
        failures = [f for last in run.job.attempts()[-1:] for f in read_failures(last.failures)]
    except OrchestraError:  # torn by the death of the process that wrote it
        return False
    of_config = {ExitCode.BAD_CONFIG, ExitCode.NOT_FINITE}
    return any(failure.exit_code in of_config for failure in failures)


def bold(text: str) -> str:
    """A heading on stdout."""
    return paint(text, "bold")


def _checkpoint(row: dict[str, Any]) -> str:
    step = row["checkpoint_step"]
    return f"{row['checkpoint']}{f' (step {step})' if step is not None else ''}"
