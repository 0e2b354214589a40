"""Loading: the same batches with and without workers; errors name the utterance."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestra.config.schema import AugmentConfig, DataConfig, SpeedConfig, TaskConfig
from orchestra.data.augmenter import Augmenter
from orchestra.data.loader import Loader, Request, to_device
from orchestra.tasks import Batch, Direction, LossTerms, Prediction, Task
from orchestra.wire.errors import DataError
from orchestra.wire.identity import start_ticks
from orchestra.wire.manifest import Utterance

UTTERANCES = [Utterance(f"u{n}", Path(f"/{n}.wav"), 0.0, 0.01 * (n + 1), {}) for n in range(6)]
REQUESTS = [Request(0, (0, 1)), Request(0, (4,)), Request(1, (0, 1)), Request(1, (2, 3, 5))]


class Ramps(Task):
    """Reads ramps; u3 is broken in the way that `broken` says."""

    metrics: Mapping[str, Direction] = {"none": "min"}
    broken: str | None = None

    def read(self, utterance: Utterance) -> Any:
        wav = np.linspace(0, 1, round(16000 * utterance.duration_s), dtype=np.float32)
        if utterance.id == "u3" and self.broken == "unreadable":
            raise DataError("utterance u3: /3.wav is not audio")
        if utterance.id == "u3" and self.broken == "nan":
            wav[5] = np.nan
        if utterance.id == "u3" and self.broken == "silent":
            wav *= 3e-5  # -90.5 dB of full scale
        if utterance.id == "u3" and self.broken == "empty":
            wav = wav[:0]
        return wav

    def target(self, utterance: Utterance) -> int:
        return len(utterance.id)

    def collate(self, targets: Any) -> dict[str, torch.Tensor]:
        return {"sizes": torch.tensor(targets)}

    def build_head(self, dim: int, stride: int) -> torch.nn.Module:
        raise NotImplementedError

    def loss(self, *arguments: Any) -> LossTerms:
        raise NotImplementedError

    def predict(self, *arguments: Any) -> list[Prediction]:
        raise NotImplementedError

    def score(self, predictions: Any) -> dict[str, float]:
        raise NotImplementedError


def ramps(broken: str | None = None, data: DataConfig | None = None) -> Ramps:
    task = Ramps(TaskConfig(kind="ramps"), data or DataConfig())
    task.broken = broken
    return task


def batches(workers: int, broken: str | None = None) -> list[Batch]:
    return list(Loader(ramps(broken), UTTERANCES, seed=5, workers=workers).batches(REQUESTS))


def test_batches_are_padded_and_labelled() -> None:
    first = batches(0)[0]
    assert first.ids == ["u0", "u1"]
    assert first.lengths.tolist() == [160, 320]
    assert first.wavs.shape == (2, 320)
    assert first.wavs[0, 160:].abs().sum() == 0
    assert first.targets["sizes"].tolist() == [2, 2]
    assert first.utterances == UTTERANCES[:2]


def test_augmentation_seeds_are_keyed_by_epoch_and_id() -> None:
    (a, b), _, (c, d), _ = (batch.seeds for batch in batches(0))
    assert len({a, b, c, d}) == 4
    assert batches(0)[0].seeds == [a, b]


def test_workers_change_nothing_and_leave_global_randomness_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with_workers = batches(2)
    assert torch.equal(torch.get_rng_state(), before)
    for here, there in zip(batches(0), with_workers, strict=True):
        assert here.ids == there.ids
        assert here.seeds == there.seeds
        assert torch.equal(here.wavs, there.wavs)


def test_what_an_utterance_sounds_like_depends_on_epoch_and_id_alone() -> None:
    """Neither on its neighbours, nor on what was read before, nor on the process that reads."""
    config = AugmentConfig(speed=SpeedConfig(factors=[0.7, 0.9, 1.0, 1.1, 1.3]), crop_s=0.045)
    make = partial(Loader, ramps(), UTTERANCES, seed=5, augmenter=Augmenter(config))
    requests = [Request(epoch, (3, 4, 5)) for epoch in range(4)]
    together = list(make(workers=2).batches(requests))
    fresh = make(workers=0)
    for request, batch in reversed(list(zip(requests, together, strict=True))):
        for row, index in enumerate(request.indices):
            alone = fresh.read(Request(request.epoch, (index,)))
            assert alone.seeds == [batch.seeds[row]]
            assert torch.equal(alone.wavs[0], batch.wavs[row, : int(batch.lengths[row])])
    lengths = {tuple(batch.lengths.tolist()) for batch in together}
    assert len(lengths) > 1, "every epoch sounds alike"


def test_silent_utterances_are_told_and_used() -> None:
    *_, last = batches(0, "silent")
    assert last.silent == ["u3"]
    assert last.ids == ["u2", "u3", "u5"]
    assert not any(batch.silent for batch in batches(0))


def test_silent_utterances_are_refused_where_the_config_says_so() -> None:
    loader = Loader(ramps("silent", DataConfig(silent="refuse")), UTTERANCES, seed=5, workers=0)
    with pytest.raises(DataError, match=r"u3: nothing to hear \(data\.silent = .*/3\.wav"):
        list(loader.batches(REQUESTS))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("unreadable", r"^utterance u3: /3.wav is not audio; `orchestra data check`"),
        ("nan", r"u3: NaN or infinite .*; `orchestra data check`"),
        ("empty", r"u3: no samples in /3.wav; `orchestra data check`"),
    ],
)
def test_unusable_audio_names_the_utterance(workers: int, broken: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        batches(workers, broken)


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from orchestra.wire.lifeline import announce\n"
        "from tests.data.test_loader import *\n"
        "announce(os.environ)\n"
        "Ramps.read = lambda self, u: print(os.getpid(), flush=True) or time.sleep(60)\n"
        "loader = Loader(Ramps(None, None), UTTERANCES, seed=1, workers=2)\n"
        "next(loader.batches(REQUESTS))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(start_ticks(pid) for pid in workers)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 60
    while any(start_ticks(pid) for pid in workers):
        assert time.monotonic() < deadline, "a loader worker outlives its parent"
        time.sleep(0.01)


def test_batches_leave_for_the_device_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.numel())
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)  # the real one needs a GPU
    batch = Batch(["a"], torch.zeros(1, 7), torch.tensor([7]), {"labels": torch.zeros(3)}, [1])
    moved = to_device(batch, torch.device("meta"))
    assert pinned == [7, 1, 3]
    assert {moved.wavs.device.type, moved.targets["labels"].device.type} == {"meta"}
    assert to_device(batch, torch.device("cpu")) is batch
