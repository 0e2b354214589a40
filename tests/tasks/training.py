"""For tests of built-in tasks: their corpora, and a training in this process, on one rank."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.config.compose import Request, compose
from orchestra.config.schema import RunConfig
from orchestra.data.corpora import Corpus, Prepared, faults, find_corpora
from orchestra.tasks import builtin_folder
from orchestra.train import session as sessions
from orchestra.train.trainer import train
from orchestra.wire.files import read_json
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Heartbeat
from orchestra.wire.job import CODE
from orchestra.wire.manifest import write_manifest

SEED = 1
FSDD = Path(__file__).parents[3] / "shared" / "data" / "fsdd"
needs_fsdd = pytest.mark.skipif(not FSDD.is_dir(), reason="the real digit recordings are not here")
UNTRAINED = (
    *("train.max_steps=1", "optim.lr=1e-12", "train.eval_every=1", "checkpoint.every=1"),
    *('schedule.kind="constant"', "schedule.warmup_steps=0"),
)
"""One step of a learning rate that moves nothing: what a task scores without training."""


@dataclass(frozen=True)
class Trained:
    """A run that has ended."""

    job: Job
    config: RunConfig
    metrics: dict[str, float]
    """Of the first test split, with the best checkpoint."""


def corpus_named(name: str) -> Corpus:
    """A corpus of a built-in task."""
    return find_corpora(builtin_folder()).corpora[name]


def prepare_tiny(corpus: str, root: Path) -> Path:
    """Make the tiny corpus below `root` and read it; returns the folder of its manifests."""
    known = corpus_named(corpus)
    assert known.make is not None
    root.mkdir(parents=True, exist_ok=True)
    known.make(root, SEED)
    return prepare_corpus(known, root, root / "manifests")


def prepare_corpus(corpus: Corpus, root: Path, manifests: Path) -> Path:
    """Read a corpus that has no problems; returns the folder of its manifests."""
    prepared = corpus.prepare(root, manifests)
    assert not faults(prepared)
    for split, lines in prepared.splits.items():
        write_manifest(manifests, split, lines, "a test")
    return manifests


def train_here(
    task: str,
    preset: str,
    manifests: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *sets: str,
) -> Trained:
    """A run in `folder`, from nothing to the evaluation of its test splits."""
    monkeypatch.setenv(CODE, str(builtin_folder()))
    sets = (f"data.manifests={manifests}", "data.workers=0", "seed=1", *sets)
    composed = compose(Request(folder, task, presets=(preset,), sets=sets))
    job = Job("train", folder / "run")
    attempt = job.attempt(1)
    attempt.path.mkdir(parents=True)
    job.config.write_bytes(composed.toml)
    train(sessions.open_session(job, attempt, Heartbeat(job.folder / "pages", 0)))
    metrics = read_json(job.run.evaluation(1).metrics)["metrics"]
    return Trained(job, composed.config, metrics)


def write_noise(path: Path, seconds: float = 0.1) -> None:
    """A short recording of nothing in particular, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(path.name)).normal(0, 0.1, round(16_000 * seconds))
    soundfile.write(path, samples, 16_000)


def kinds_of(prepared: Prepared) -> dict[str, list[str]]:
    """Where each kind of problem was found."""
    places: dict[str, list[str]] = {}
    for problem in prepared.problems:
        places.setdefault(problem.kind, []).append(problem.where)
    return places


def accuracy_by_length(
    train: list[dict[str, Any]], test: list[dict[str, Any]], *slots: str
) -> float:
    """Percent that duration alone tells: the label that is most frequent among the five nearest."""

    def label(line: dict[str, Any]) -> tuple[str, ...]:
        return tuple(line[slot] for slot in slots)

    right = 0
    for line in test:
        near = sorted(train, key=lambda other: abs(other["duration_s"] - line["duration_s"]))[:5]
        right += Counter(map(label, near)).most_common(1)[0][0] == label(line)
    return 100.0 * right / len(test)
