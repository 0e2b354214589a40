"""Checkpoint folders as the ranks commit them, made without torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from orchestra.wire.checkpoints import seal, step_folder


def make_checkpoint(root: Path, step: int, score: float | None, *, direction: str = "min") -> Path:
    """One file of 1000 random bytes and its manifest; the metric is `wer`."""
    folder = step_folder(root, step)
    folder.mkdir(parents=True)
    data = os.urandom(1000)
    (folder / "model.safetensors").write_bytes(data)
    listed = {"model.safetensors": {"size": 1000, "sha256": hashlib.sha256(data).hexdigest()}}
    goal = {"metric": "wer", "direction": direction}
    document = {"version": 1, "step": step, "score": score, **goal, "files": listed}
    (folder / "manifest.json").write_text(json.dumps({**document, "seal": seal(document)}))
    return folder
