"""What heartbeats cost the training thread."""

from __future__ import annotations

import shutil
import time

from orchestra.wire.heartbeat import Heartbeat, Phase, pages_folder
from tests.benchmarks.table import Row

STEPS = 50_000
IN_A_STEP = (Phase.DATA, Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)
IDS = [f"1034-121119-{number:04d}" for number in range(12)]
"""Of a micro-batch, as LibriSpeech names them."""


def measure() -> list[Row]:
    folder = pages_folder("benchmark")
    heartbeat = Heartbeat(folder, 0)
    started = time.perf_counter()
    for step in range(STEPS):
        for phase in IN_A_STEP:
            heartbeat.beat(step, phase)
    beating_s = time.perf_counter() - started
    for _ in range(STEPS):
        heartbeat.note_samples(IDS)
    noting_s = time.perf_counter() - started - beating_s
    shutil.rmtree(folder)
    beat_us, note_us = beating_s / len(IN_A_STEP) / STEPS * 1e6, noting_s / STEPS * 1e6
    step_us = len(IN_A_STEP) * beat_us + note_us
    return [
        Row("one heartbeat", f"{beat_us:.2f} us", "<= 2 us", f"mean of {4 * STEPS:,}"),
        Row("naming 12 utterances at work", f"{note_us:.2f} us", "", f"mean of {STEPS:,}"),
        Row("heartbeats of a step", f"{step_us:.2f} us", "", "4 beats and 12 utterances"),
    ]
