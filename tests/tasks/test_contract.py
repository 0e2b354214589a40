"""All built-in tasks keep the contract of tasks, each on its tiny corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from orchestra.tasks import discover
from orchestra.testing import RULES, Subject, find, subject_of
from orchestra.wire.manifest import write_manifest

NOWHERE = Path("/nowhere")
TASKS = sorted(discover(NOWHERE))


@pytest.mark.parametrize("name", TASKS)
def test_a_built_in_task_keeps_the_contract(name: str, tmp_path: Path) -> None:
    """In one test for each task: its corpus is made once."""
    subject = _asr(tmp_path) if name == "asr" else subject_of(name, NOWHERE, tmp_path)
    findings = [find(rule, subject) for rule in RULES]
    assert [(found.rule, found.text) for found in findings if not found.ok] == []


def _asr(folder: Path) -> Subject:
    """Its corpora are spoken or real ones: here noise of different lengths with some text."""
    texts = ["A CAT", "THE DOG SAT", "NO", "IT RAINS AND RAINS", "I AM", "YES YES", "OH"]
    for split in ("train", "dev", "test"):
        rows = []
        for number, text in enumerate(texts):
            draw, seconds = np.random.default_rng(number), 0.6 + 0.05 * len(text)
            path = folder / f"{split}-{number}.flac"
            soundfile.write(path, 0.1 * draw.standard_normal(round(16000 * seconds)), 16000)
            seconds = soundfile.info(path).duration
            row = {"id": path.stem, "path": str(path), "duration_s": seconds, "text": text}
            rows.append(row)
        write_manifest(folder, split, rows, "this test")
    head = 'task.head={kind = "small", projection = 12, hidden = 12}'
    splits = ("data.train=train", "data.valid=dev", 'data.test=["test"]')
    return subject_of("asr", NOWHERE, folder, sets=(f"data.manifests='{folder}'", *splits, head))
