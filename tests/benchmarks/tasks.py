"""Each task on its tiny corpus, and on recorded digits where they are: score and time.

The digits (the Free Spoken Digit Dataset) are looked for in ORCHESTRA_RECORDINGS.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import fresh_workspace, orchestra, show
from tests.tasks.training import UNTRAINED

RECORDINGS = "ORCHESTRA_RECORDINGS"


@dataclass(frozen=True)
class Case:
    """A preset and what is asked of it."""

    task: str
    preset: str
    corpus: str
    metric: str
    bar: str
    sets: tuple[str, ...] = ()


TINY = (
    Case("pr", "pr-tiny", "libriphone", "per", "<= half of untrained"),
    Case("ks", "ks-tiny", "speech_commands", "accuracy", ">= 3 x 8.3 (chance)"),
    Case("sid", "sid-tiny", "voxceleb1", "accuracy", ">= 3 x 12.5 (chance)"),
    Case("asv", "asv-tiny", "voxceleb1-trials", "eer", "<= half of untrained"),
    Case("sd", "sd-tiny", "libri2mix", "der", "<= half of untrained"),
    Case("ic", "ic-tiny", "fluent_commands", "accuracy", ">= 3 x 3.7 (chance)"),
    Case("sf", "sf-tiny", "snips", "slot_type_f1", "(untrained 0)"),
    Case("er", "er-tiny", "iemocap", "accuracy", ">= 3 x 25 (chance), a fold", ("task.fold=1",)),
)
DIGITS = (
    Case("ks", "ks-digits", "digits-ks", "accuracy", ">= 95, <= 180 s"),
    Case("sid", "sid-digits", "digits-sid", "accuracy", ">= 95"),
)


def measure() -> list[Row]:
    with fresh_workspace() as workspace:
        (workspace / ".gitignore").write_text("runs\ncorpora\n")
        rows = [row for case in TINY for row in _tiny(workspace, case)]
        recordings = os.environ.get(RECORDINGS)
        for case in DIGITS if recordings else ():
            manifests = workspace / "corpora" / case.preset
            words = ("--root", str(recordings), "--out", str(manifests))
            orchestra(workspace, "data", "prepare", case.corpus, *words)
            value, seconds = _train(workspace, case, f"data.manifests='{manifests}'")
            rows.append(_row(case, f"{value:.2f}, unseen takes", seconds))
    return rows


def _tiny(workspace: Path, case: Case) -> Iterator[Row]:
    root = workspace / "corpora" / case.preset
    for program in ("synth", "prepare"):
        orchestra(workspace, "data", program, case.corpus, "--root", str(root))
    data = f"data.root='{root}'"
    value, seconds = _train(workspace, case, data)
    untrained, _ = _train(workspace, case, data, *UNTRAINED)
    yield _row(case, f"{value:.2f} (untrained {untrained:.2f})", seconds)


def _row(case: Case, value: str, seconds: float) -> Row:
    what = f"`{case.task}` by preset {case.preset}, {case.metric}"
    how = f"{seconds:.0f} s on 2 CPU ranks, start and evaluation included"
    return Row(what, value, case.bar, how)


def _train(workspace: Path, case: Case, *sets: str) -> tuple[float, float]:
    """The score on the test split, and seconds."""
    words = [word for text in (*case.sets, *sets) for word in ("--set", text)]
    started = time.perf_counter()
    run = orchestra(
        workspace,
        *("run", case.task, "--preset", case.preset, "--cpu", "--nproc", "2"),
        *("--seed", "1", "--quiet", *words),
    ).strip()
    seconds = time.perf_counter() - started
    *_, last = [row for row in show(workspace, run)["evaluations"] if row["metrics"]]
    return last["metrics"][case.metric], seconds
