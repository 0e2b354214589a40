"""orchestra show"""

from __future__ import annotations

import shlex
import time
from typing import Any

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.failures import print_failures, print_last_words, untold, wrap
from orchestra.cli.members import print_parent
from orchestra.cli.output import emit, emit_json, emit_raw, table
from orchestra.cli.result import bold, print_evaluations
from orchestra.formats import ago, duration, number
from orchestra.wire.states import ENDED, RunState
from orchestra.wire.terminal import clean

_LAST_EVENTS = 20
_EVENT_COLUMNS = 70


def show(context: typer.Context, run: options.Run, json: options.Json = False) -> None:
    """Show one run: state, why it failed, progress, scores.

    \b
    Examples:
      orchestra show @last
      orchestra show asr-wavlm-h7k2 --json | jq .evaluations
      orchestra show @last --json | jq '.attempts[].failure | select(.) | .cause'
    """
    from orchestra.registry.store import open_registry
    from orchestra.schedule.describe import describe
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.parent import find_parent

    workspace = workspace_of(context)
    if parent := find_parent(workspace, run):
        print_parent(workspace, parent.id, json=json)
        return
    run_id = find_run(workspace, run)
    with open_registry(workspace.runs) as registry:
        document = describe(workspace, registry, run_id)
    if json:
        emit_json(document)
    else:
        _page(document)


def _page(run: dict[str, Any]) -> None:
    failed = [item for item in run["attempts"] if item["failure"]]
    emit_raw(f"{bold(clean(run['name']))}  {run['id']}  {_state(run, failed)}")
    print_failures(failed)
    _facts(run)
    _section("Attempts", [_attempt(item) for item in run["attempts"]], right=("steps",))
    _section(
        "Checkpoints",
        [
            {"step": str(item["step"]), "score": number(item["score"]), "path": item["path"]}
            for item in run["checkpoints"]
        ],
        right=("step", "score"),
    )
    if run["evaluations"]:
        emit()
        emit_raw(bold("Evaluations"))
        print_evaluations(run["evaluations"], run["metric"])
    events = [line for item in run["events"][-_LAST_EVENTS:] for line in _event(item, failed)]
    _section("Events", events, right=())
    if run["state"] == RunState.FAILED and failed and failed[-1] is run["attempts"][-1]:
        print_last_words(failed[-1]["failure"])
    if run["command"]:
        emit()
        emit_raw(bold("The same by plain torchrun"))
        emit(shlex.join(run["command"]))


def _state(run: dict[str, Any], failed: list[dict[str, Any]]) -> str:
    """A reason that is told below is left out."""
    text = run["state"]
    for more in (run["where"], untold(run["reason"], failed)):
        if more:
            text += f": {more}"
    return clean(text)


def _facts(run: dict[str, Any]) -> None:
    progress = run["progress"]
    facts = {
        "task": f"{run['task']} on {run['upstream']}",
        "created": ago(run["created_at"]),
        "progress": _progress(progress, ended=run["state"] in ENDED),
        "speed": _speed(progress),
        "score": f"{run['metric'] or 'score'} {number(run['score'])}, "
        f"best {number(run['best_score'])}",
        "supervisor": f"pid {run['supervisor']['pid']} on {run['supervisor']['host']}"
        if run["supervisor"]["pid"]
        else "-",
        "code": _commit(run["git"]),
        "tree": run["git"]["tree"] or "-",
        "init": _init(run["init"]),
        "config": f"sha256 {run['config_sha256']}",
        "folder": run["folders"]["run"],
    }
    if run["parent"]:
        facts["parent"] = f"{run['parent']}, {run['member']}"
    if run["clone_of"]:
        facts["clone of"] = run["clone_of"]
    if run["tags"]:
        facts["tags"] = ", ".join(run["tags"])
    if run["note"]:
        facts["note"] = run["note"]
    if waits := run["waits"]:
        position = f"at position {waits['position']}: " if waits["position"] else ""
        facts["waits"] = position + clean(waits["reason"])
    if progress["problem"]:
        facts["metrics"] = progress["problem"]
    if not run["exact"]:
        parts = max(item["split"] for item in run["attempts"])
        facts["exact"] = f"not exact: micro-batches were cut in {parts} after running out of memory"
    if run["capsules"]:
        facts["capsules"] = ", ".join(item["name"] for item in run["capsules"])
    for name, value in facts.items():
        emit(f"  {name:<11} {value}")


def _progress(progress: dict[str, Any], *, ended: bool) -> str:
    words = [f"step {progress['step']} of {progress['max_steps'] or '?'}"]
    words.append(f"loss {number(progress['loss'])}")
    if not ended:
        words.append(f"ETA {_time_left(progress)}")
    if progress["skipped"]:
        words.append(f"skipped {number(progress['skipped'])} steps (not finite)")
    return ", ".join(words)


def _init(init: dict[str, Any] | None) -> str:
    if init is None:
        return "random weights"
    parts = f", parts {', '.join(init['parts'])}" if init["parts"] else ""
    return f"{init['source']} ({init['folder']}){parts}"


def _time_left(progress: dict[str, Any]) -> str:
    """With its parts, where they take time."""
    names = {"validation": "eta_evaluation_s", "saves": "eta_checkpoint_s"}
    parts = [f"{what} {duration(progress[name])}" for what, name in names.items() if progress[name]]
    return duration(progress["eta_s"]) + (f" (of it {', '.join(parts)})" if parts else "")


def _speed(progress: dict[str, Any]) -> str:
    """Throughput, what steps wait for, memory; of the newest record."""
    if progress["steps_per_s"] is None:
        return "-"
    words = [f"{number(progress['steps_per_s'], 3)} steps/s"]
    if progress["audio_s_per_s"] is not None:
        words.append(f"{number(progress['audio_s_per_s'], 3)} x real time")
    for name, what in (("data_share", "data"), ("communication_share", "other ranks")):
        if progress[name] is not None:
            words.append(f"{progress[name]:.1%} waiting for {what}")
    if progress["memory_bytes"] is not None:
        words.append(f"{progress['memory_bytes'] / 2**20:.0f} MiB")
    return ", ".join(words)


def _commit(git: dict[str, Any]) -> str:
    if git["commit"] is None:
        return "no commit on record"
    dirty = ", with uncommitted changes" if git["dirty"] else ""
    return f"{git['commit'][:12]} on {git['branch'] or 'no branch'}{dirty}"


def _section(title: str, rows: list[dict[str, str]], right: tuple[str, ...]) -> None:
    if rows:
        emit()
        emit_raw(bold(title))
        table(rows, right=right)


def _event(item: dict[str, Any], failed: list[dict[str, Any]]) -> list[dict[str, str]]:
    """In as many lines as the text needs."""
    first, *more = wrap(untold(item["text"], failed), _EVENT_COLUMNS) or [""]
    row = {
        "when": ago(item["time"]),
        "of": f"eval {item['evaluation']}" if item["evaluation"] else "run",
        "what": item["kind"],
        "text": first,
    }
    return [row, *({**dict.fromkeys(row, ""), "text": line} for line in more)]


def _attempt(item: dict[str, Any]) -> dict[str, str]:
    took = (item["ended_at"] or time.time()) - item["started_at"]
    ranks = ", ".join(str(rank["pid"]) for rank in item["ranks"])
    return {
        "attempt": str(item["number"]),
        "state": item["state"],
        "steps": f"{item['first_step']}-{item['last_step']}",
        "took": duration(took),
        "config": (item["config_sha256"] or "-")[:8],
        "rank pids": ranks or "-",
        "reason": untold(item["reason"], [item] if item["failure"] else []),
    }
