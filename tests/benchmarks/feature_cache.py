"""Epochs of a training with the feature cache against those without, and the cache's own costs.

A random HuBERT of 12 layers and 768 dimensions, the learnt sum of all, mean pooling: what is left
of an epoch is reading.
"""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch

from orchestra.data.feature_store import FeatureStore, Kind
from orchestra.wire.features import usage
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE
from orchestra.wire.manifest import Utterance, write_manifest
from orchestra.wire.records import read_records
from tests.benchmarks.table import Row
from tests.exactness.launching import REPOSITORY, WORKSPACE, write_job

UTTERANCES = 16
EPOCHS = 4
NEVER = 1000
MANY = 100_000


def measure() -> list[Row]:
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        return [*_epochs(Path(folder)), *_many(Path(folder) / "many")]


def _epochs(folder: Path) -> list[Row]:
    source, manifests = folder / "hubert", folder / "manifests"
    _save_hubert(source)
    seconds = _record(folder / "audio", manifests)
    plain = _train(folder / "plain/run", source, manifests, features=False)
    cached = _train(folder / "cached/run", source, manifests, features=True)
    again = _train(folder / "cached/again", source, manifests, features=True)
    without_s = statistics.median(_epochs_s(plain))
    first_s, *later_s = _epochs_s(cached)
    with_s = statistics.median(later_s)
    shared_s = statistics.median(_epochs_s(again))
    pairs = zip(_losses(plain).values(), _losses(cached).values(), strict=True)
    difference = max(abs(a - b) / a for a, b in pairs)
    size = usage(folder / "cached/.features").bytes
    how = f"{UTTERANCES} utterances, {seconds:.0f} s; one rank, one thread, two loader workers"
    return [
        Row(
            "epochs after the first with the feature cache",
            f"{without_s / with_s:.1f} x faster ({without_s:.2f} -> {with_s:.2f} s)",
            ">= 5 x",
            f"HuBERT of 12 layers, 768 wide; {how}; median of {len(later_s)} epochs",
        ),
        Row(
            "the first epoch with a cold cache",
            f"{first_s / without_s:.2f} x as long",
            "",
            "each utterance by itself, written by a thread",
        ),
        Row(
            "epochs of a second run on the same cache",
            f"{without_s / shared_s:.1f} x faster",
            "",
            f"median of {EPOCHS}, the first one too; "
            f"losses {'equal' if _losses(again) == _losses(cached) else 'DIFFERENT'}",
        ),
        Row(
            "loss with the cache against without",
            f"{difference:.1e} at most, relative",
            "fp16 rounding, 4.9e-4",
            f"of {len(_losses(plain))} steps",
        ),
        Row(
            "size of the cache",
            f"{size / seconds / 1e6:.2f} MB per second of audio",
            "",
            "13 hidden states",
        ),
    ]


def _many(folder: Path) -> list[Row]:
    """A file per utterance, as large as a word of a command would make it."""
    features = torch.zeros(1, 50, 64, dtype=torch.float16)
    kind = Kind({}, {}, 1, 64)
    store = FeatureStore(folder, kind, lambda utterance: utterance.id, lambda text: None, 2**40)
    utterances = [Utterance(str(n), Path("/"), 0.0, 1.0, {}) for n in range(MANY)]
    started = time.perf_counter()
    for utterance in utterances:
        store.put(store.find(utterance).key, features, 16000, silent=False)
    store.close()
    written = time.perf_counter()
    for utterance in utterances:
        store.find(utterance)
    found = time.perf_counter()
    usage(folder)
    counted = time.perf_counter()
    return [
        Row(
            f"{MANY} utterances, a file each",
            f"{1e6 * (written - started) / MANY:.0f} us to write one, "
            f"{1e6 * (found - written) / MANY:.0f} us to find and verify it, "
            f"{counted - found:.1f} s to count them all",
            "",
            "6.4 kB each, 256 folders, page cache",
        )
    ]


def _save_hubert(folder: Path) -> None:
    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig()).save_pretrained(folder)


def _record(audio: Path, manifests: Path) -> float:
    """Noise as FLAC files; the seconds of the training split."""
    audio.mkdir()
    draw = np.random.default_rng(0)
    lines = []
    for n in range(UTTERANCES):
        duration_s = 1.0 + 2.0 * n / UTTERANCES
        samples = 0.1 * draw.standard_normal(round(16000 * duration_s))
        soundfile.write(audio / f"{n}.flac", samples, 16000)
        path, shown_s = str(audio / f"{n}.flac"), round(duration_s, 3)
        lines.append({"id": f"u{n}", "path": path, "duration_s": shown_s, "label": n % 3})
    write_manifest(manifests, "train", lines, "a benchmark")
    for split in ("dev", "test"):
        write_manifest(manifests, split, lines[:1], "a benchmark")
    return sum(line["duration_s"] for line in lines)


def _train(folder: Path, source: Path, manifests: Path, *, features: bool) -> Job:
    job = write_job(
        folder,
        kind="pooled",
        upstream={"kind": "huggingface", "name": "hubert", "source": str(source)},
        data={"manifests": str(manifests), "workers": 2},
        batch={"seconds": 18.0, "max_micro_seconds": 18.0, "micro_batches": 1},
        optim={"lr": 1e-4},
        train={"max_epochs": EPOCHS, "max_steps": NEVER, "eval_every": NEVER, "log_every": 1},
        checkpoint={"every": NEVER},
        cache={"features": features},
    )
    program = ["orchestra.train.rank", "--job", str(folder), "--kind", "train", "--attempt", "1"]
    environment = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", CODE: str(WORKSPACE)}
    subprocess.run([sys.executable, "-m", *program], env={**os.environ, **environment}, check=True)
    return job


def _records(job: Job) -> list[tuple[float, Mapping[str, Any]]]:
    with job.attempt(1).records.open("rb") as file:
        found = [record for record in read_records(file) if record.kind in ("start", "train")]
    return [(record.time_s, record.values) for record in found]


def _epochs_s(job: Job) -> list[float]:
    """Of each epoch, from the last step before it to its own last step."""
    (_, start), *_ = records = _records(job)
    steps = int(start["plan"]["steps"])
    ends = [records[number][0] for number in range(0, len(records), steps)]
    return [after - before for before, after in pairwise(ends)]


def _losses(job: Job) -> dict[int, float]:
    return {n: values["loss"] for n, (_, values) in enumerate(_records(job)[1:])}
