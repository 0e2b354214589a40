"""Evaluation with 1 and with 2 ranks: the same predictions, and how much faster."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import fresh_workspace, orchestra, show

PAIRS = 3
SPLIT = "train-clean-100"  # the longest


def measure() -> list[Row]:
    with fresh_workspace() as workspace:
        corpus = workspace / ".demo" / "LibriSpeech"
        orchestra(workspace, "data", "synth", "librispeech", "--root", str(corpus))
        orchestra(workspace, "data", "prepare", "librispeech", "--root", str(corpus))
        presets = ["--preset", "asr-demo", "--preset", "debug"]
        orchestra(workspace, "run", "asr", *presets, "--cpu", "--name", "subject")
        speeds: dict[int, list[float]] = {1: [], 2: []}
        answers = set()
        for _ in range(PAIRS):
            for ranks in speeds:
                result, predictions = _evaluate(workspace, ranks)
                speeds[ranks].append(result["audio_s"] / result["elapsed_s"])
                answers.add((json.dumps(result["metrics"], sort_keys=True), predictions))
    one, two = (statistics.median(speeds[ranks]) for ranks in (1, 2))
    same = "identical" if len(answers) == 1 else f"{len(answers)} DIFFERENT answers"
    return [
        Row(
            f"evaluation of {SPLIT}, 2 ranks against 1",
            f"{two / one:.2f} x ({one:.0f} -> {two:.0f} s of audio/s), predictions {same}",
            ">= 1.6 x, identical",
            f"one thread each, median of {PAIRS} pairs in turn",
        )
    ]


def _evaluate(workspace: Path, ranks: int) -> tuple[dict[str, float], bytes]:
    orchestra(workspace, "eval", "subject", "--split", SPLIT, "--cpu", "--nproc", str(ranks))
    folder = Path(show(workspace, "subject")["folders"]["run"]) / "evaluations"
    newest = max(folder.iterdir())
    return json.loads((newest / "metrics.json").read_bytes()), (
        newest / "predictions.jsonl"
    ).read_bytes()
