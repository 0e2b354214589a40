"""Everything about one run as one JSON document: `orchestra show --json`, relied on by scripts.

Reads the registry, the run folder and heartbeat pages; no side effects. Keys are only ever added.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import EvaluationRow, JobKey, RunRow
from orchestra.registry.store import Registry
from orchestra.schedule.listing import health, list_row, supervisor_of
from orchestra.schedule.queue import position_of
from orchestra.wire.capsules import capsules_in
from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import read_json
from orchestra.wire.folders import RunFolder
from orchestra.wire.heartbeat import pages_folder, read_beats
from orchestra.wire.identity import start_ticks
from orchestra.wire.job import Attempt, config_sha256
from orchestra.wire.manifest import read_summary
from orchestra.wire.states import AttemptState, RunState
from orchestra.workspace import Workspace


def describe(workspace: Workspace, registry: Registry, run_id: str) -> dict[str, Any]:
    """The whole document (NotFoundError)."""
    row = registry.get_run(run_id)
    run = workspace.runs.run(run_id)
    key = JobKey(run_id)
    attempts = registry.attempts(key)
    provenance = _read(run.provenance)
    supervisor = supervisor_of(workspace, key)
    summary = list_row(row)
    return {
        **summary,
        "progress": {
            "step": row.step,
            "max_steps": row.max_steps,
            "loss": row.loss,
            "audio_s_per_s": row.audio_s_per_s,
            "eta_s": summary["eta_s"],
            **_statistics(run),
        },
        "supervisor": {
            "pid": supervisor.pid if supervisor else None,
            "alive": supervisor.is_alive() if supervisor and supervisor.is_here() else None,
            "host": supervisor.host if supervisor else None,
        },
        "where": health(workspace, key, row.state),
        "waits": _place(workspace, row),
        "attempts": [_attempt(attempt, row.step) for attempt in attempts],
        "exact": all(attempt.split == 1 for attempt in attempts),
        "checkpoints": [
            {"step": item.step, "path": str(run.path / item.path), "score": item.score}
            for item in registry.checkpoints(run_id)
        ],
        "capsules": [
            {"name": each.name, "step": each.step, "rank": each.rank, "path": str(each.folder)}
            for each in capsules_in(run.capsules)
        ],
        "events": [
            {
                "time": item.time_s,
                "kind": item.kind,
                "text": item.text,
                "evaluation": item.evaluation,
            }
            for item in registry.events(run_id)
        ],
        "evaluations": describe_evaluations(workspace, registry, run_id),
        "git": {
            "commit": row.git_commit,
            "branch": row.git_branch,
            "dirty": row.git_dirty,
            "tree": row.git_tree,
        },
        "data": _data(run),
        "init": _init(run),
        "config_sha256": _config_sha256(row, run),
        "command": list(attempts[-1].command) if attempts else None,
        "argv": _read(run.identity).get("argv"),
        "clone_of": _read(run.identity).get("clone_of"),
        "folders": {
            "run": str(run.path),
            "code": str(workspace.runs.snapshot(provenance["code"])) if provenance else None,
            "checkpoints": str(run.checkpoints),
            "logs": str(run.job.attempt(attempts[-1].number).logs) if attempts else None,
            "tensorboard": str(run.job.attempt(attempts[-1].number).tensorboard)
            if attempts
            else None,
        },
    }


def describe_evaluations(
    workspace: Workspace, registry: Registry, run_id: str
) -> list[dict[str, Any]]:
    """The part of the document on its evaluations, oldest first; running ones too."""
    run = workspace.runs.run(run_id)
    return [_evaluation(run, item) for item in registry.evaluations(run_id)]


def _place(workspace: Workspace, row: RunRow) -> dict[str, Any] | None:
    """Where a queued run stands and why; null for all others."""
    if row.state != RunState.QUEUED:
        return None
    place = position_of(workspace, JobKey(row.id))
    return None if place is None else {"position": place.position, "reason": place.reason}


def _statistics(run: RunFolder) -> dict[str, Any]:
    """The newest numbers of the metric store; why there are none is in `problem`, else null."""
    names = (
        "steps_per_s",
        "data_share",
        "communication_share",
        "memory_bytes",
        "skipped",
        "eta_evaluation_s",
        "eta_checkpoint_s",
    )
    store, problem = MetricStore(run.metrics), None
    try:
        points = store.last()
    except (OrchestraError, sqlite3.Error) as error:
        points, problem = {}, str(error)
    finally:
        store.close()
    values = {name: points.get(f"train/{name}") for name in names}
    return {
        **{name: point.value if point else None for name, point in values.items()},
        "problem": problem,
    }


def _attempt(attempt: Attempt, step: int) -> dict[str, Any]:
    """`step`: where the run stands; an attempt at work has no last step on record."""
    running = attempt.state == AttemptState.RUNNING
    return {
        "number": attempt.number,
        "state": attempt.state.value,
        "reason": attempt.reason,
        "world_size": attempt.world_size,
        "devices": list(attempt.devices),
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "config_sha256": attempt.config_sha256 or None,
        "first_step": attempt.first_step,
        "last_step": max(step, attempt.first_step) if running else attempt.last_step,
        "ranks": _ranks(attempt),
        "split": attempt.split,
        "failure": attempt.failure,
    }


def _ranks(attempt: Attempt) -> list[dict[str, int]]:
    """The ranks of a running attempt that are alive; of an ended one those on record."""
    if attempt.state != AttemptState.RUNNING:
        return [{"rank": rank, "pid": pid} for rank, pid in enumerate(attempt.ranks)]
    return [
        {"rank": beat.rank, "pid": beat.pid}
        for beat in read_beats(pages_folder(attempt.tag))
        if start_ticks(beat.pid) == beat.start_ticks
    ]


def _config_sha256(row: RunRow, run: RunFolder) -> str:
    """Of the config that the run has now; `resume --set` changes it."""
    try:
        return config_sha256(run.job)
    except OSError:  # a damaged folder
        return row.config_sha256


def _evaluation(run: RunFolder, row: EvaluationRow) -> dict[str, Any]:
    """`checkpoint` is `best` or `last` until the ranks know which one that is."""
    result = _read(run.evaluation(row.number).metrics)
    checkpoint = result.get("checkpoint", {})
    return {
        "number": row.number,
        "state": row.state.value,
        "reason": row.reason,
        "split": row.split,
        "checkpoint": checkpoint.get("path", row.checkpoint),
        "checkpoint_sha256": checkpoint.get("sha256"),
        "checkpoint_source": checkpoint.get("source"),
        "checkpoint_step": row.checkpoint_step,
        "config_sha256": result.get("config_sha256"),
        "created_at": row.created_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "metrics": row.metrics,
        "declared": result.get("declared"),
        "directions": result.get("directions"),
        "manifest_sha256": result.get("data", {}).get("manifest_sha256"),
        "seconds_per_utterance": result.get("seconds_per_utterance"),
        "real_time_factor": result.get("real_time_factor"),
        "predictions": str(run.evaluation(row.number).predictions),
    }


def _init(run: RunFolder) -> dict[str, Any] | None:
    """The weights it started from: source, folder, sha256, parts; None if random ones."""
    try:
        config = tomllib.loads(run.job.config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    init: dict[str, Any] | None = config.get("init")
    return init


def _data(run: RunFolder) -> dict[str, dict[str, Any]]:
    """What the splits hold, from their manifests' summaries; empty where there are none."""
    try:
        data = tomllib.loads(run.job.config.read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError):
        return {}
    if "manifests" not in data:
        return {}
    found = {}
    for split in dict.fromkeys((data["train"], data["valid"], *data["test"])):
        with contextlib.suppress(OrchestraError, TypeError):
            found[split] = asdict(read_summary(Path(data["manifests"]), split))
    return found


def _read(path: Path) -> dict[str, Any]:
    """A document of the run folder, or nothing where the folder is damaged."""
    try:
        document: dict[str, Any] = read_json(path)
    except (FileNotFoundError, OrchestraError):
        return {}
    return document
