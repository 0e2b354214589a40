"""Runs whose curves look like those of trainings: attempts, NaN, spikes; and their views."""

from __future__ import annotations

import math
import random
from pathlib import Path

from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import RunRow
from orchestra.schedule.board import Doing, RunView
from orchestra.wire.folders import RunsFolder
from orchestra.wire.records import Record
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace

BEGAN_S = 1_764_000_000.0
STEP_S = 0.9
STEPS_PER_EPOCH = 400


def workspace(root: Path) -> Workspace:
    return Workspace(root, RunsFolder(root / "runs"))


def run_view(run_id: str, name: str = "", *, metric: str | None = "wer") -> RunView:
    row = RunRow(
        id=run_id, name=name or f"asr-{run_id}", state=RunState.RUNNING, reason="", task="asr",
        upstream="wavlm", created_at=BEGAN_S, started_at=BEGAN_S, ended_at=None, step=0,
        max_steps=10_000, loss=None, audio_s_per_s=None, eta_s=None, score=None, best_score=None,
        metric=metric, attempt=1, supervisor_pid=None, host=None, devices=(), git_commit=None,
        git_branch=None, git_dirty=None, git_tree=None, config_sha256="0",
    )  # fmt: skip
    return RunView(row, Doing.WORKING, "", 0, None)


def write_run(
    place: Workspace, run_id: str, steps: int = 4000, seed: int = 0, *, restart: bool = True
) -> MetricStore:
    """A store with losses, scores and epochs; a second attempt from three quarters of the steps."""
    path = place.runs.run(run_id).metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    store = MetricStore(path)
    rng = random.Random(seed)
    died = steps * 3 // 4 if restart else steps
    store.append(1, [Record("start", 0, BEGAN_S, {"step": 0})])
    store.append(1, records(rng, 1, died, steps, seed))
    if restart:
        resumed = died - steps // 8
        store.append(2, [Record("start", resumed, BEGAN_S, {"step": resumed})])
        store.append(2, records(rng, resumed + 1, steps, steps, seed, late_s=600.0))
    return store


def records(
    rng: random.Random, first: int, last: int, steps: int, seed: int, late_s: float = 0.0
) -> list[Record]:
    found = []
    for step in range(first, last + 1):
        done = step / steps
        loss = (4 + seed / 3) * math.exp(-6 * done) + 0.25 + 0.05 * seed + abs(rng.gauss(0, 0.12))
        if step == steps // 3:
            loss = math.nan
        values = {
            "loss": loss * (3 if rng.random() < 0.002 else 1),
            "grad_norm": math.exp(rng.gauss(0, 0.6)),
            "lr": 1e-4 * min(1, done * 10) * (1 - done),
            "epoch": step / STEPS_PER_EPOCH,
        }
        time_s = BEGAN_S + step * STEP_S + late_s
        found.append(Record("train", step, time_s, values))
        if step % max(steps // 20, 1) == 0:
            scores = {"split": "dev-clean", "wer": 100 * math.exp(-4 * done) + seed, "cer": loss}
            found.append(Record("validation", step, time_s, scores))
    return found
