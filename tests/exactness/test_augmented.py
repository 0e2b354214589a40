"""Augmented runs of real ranks: killed and resumed with other workers, the same bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.wire.manifest import write_manifest
from tests.exactness.conftest import Straight
from tests.exactness.launching import (
    Interruption,
    Kill,
    consumed,
    final_state,
    interrupted,
    write_job,
)

pytestmark = [pytest.mark.slow, pytest.mark.exactness, pytest.mark.xdist_group("augmented")]


@pytest.fixture(scope="module")
def augment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("recordings")
    rows = []
    for number in range(4):
        samples = np.random.default_rng(number).normal(0, 0.1, 3000)
        soundfile.write(folder / f"{number}.wav", samples, 16000)
        rows.append({"id": str(number), "path": f"{number}.wav", "duration_s": 3000 / 16000})
    write_manifest(folder, "all", rows, "a test")
    manifest = {"manifest": str(folder / "all.jsonl"), "probability": 0.5}
    return {"speed": {"factors": [0.9, 1.1]}, "rir": manifest, "noise": manifest, "crop_s": 0.3}


@pytest.mark.parametrize("ranks", [1, 2])
def test_resume_is_exact(
    straight: Straight, tmp_path: Path, augment: dict[str, Any], ranks: int
) -> None:
    whole = straight(ranks, augment=augment)
    job = write_job(tmp_path / "run", augment=augment, data={"workers": 2})
    kill = Kill(ranks - 1, step=6, batch=1, once_saved=5)
    job = interrupted(job, ranks, Interruption(5, kill))
    assert final_state(job) == final_state(whole)
    assert consumed(job) == consumed(whole)
    assert final_state(straight(ranks)) != final_state(whole)
