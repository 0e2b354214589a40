"""Evaluation: the same records whatever the number of ranks; every id exactly once."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestra.config.frozen import read_frozen
from orchestra.config.schema import RunConfig
from orchestra.tasks import Task
from orchestra.train import rendezvous
from orchestra.train.distributed import Peer, Ranks
from orchestra.train.evaluation import (
    Evaluated,
    Evaluator,
    Share,
    Split,
    load_split,
    merge,
    read_lines,
    require_labels,
)
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.rendezvous import Exchange
from orchestra.wire.errors import DataError, DiskFullError, OrchestraError, OutOfMemoryError
from orchestra.wire.files import write_atomic
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import SCORING_S, Phase
from orchestra.wire.identity import start_ticks
from orchestra.wire.manifest import Utterance, write_manifest
from tests.exactness.launching import WORKSPACE, write_job

HERE = (os.getpid(), start_ticks(os.getpid()) or 0)


@dataclass(frozen=True)
class Subject:
    """What is evaluated."""

    config: RunConfig
    task: Any
    model: SpeechModel
    split: Split


def subject_of(job: Job, **data: Any) -> Subject:
    """The job's untrained model, weights enlarged so that its predictions differ."""
    config, info = read_frozen(job.config, WORKSPACE)
    config = config.model_copy(update={"data": config.data.model_copy(update=data)})
    task = info.task_class()(config.task, config.data)
    model = build_model(config, task)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return Subject(config, task, model, load_split(task, "dev", config))


def batched(subject: Subject, plan: str) -> Subject:
    """With batches of one utterance, of eight, or as planned by seconds."""
    count, size = len(subject.split.utterances), {"1": 1, "8": 8, "dynamic": 0}[plan]
    if not size:
        return subject
    batches = [tuple(range(start, min(start + size, count))) for start in range(0, count, size)]
    return replace(subject, split=replace(subject.split, batches=batches))


def unheard(phase: Phase, promise_s: float) -> None:
    """A heart that nobody listens to."""


def evaluate(
    subject: Subject,
    folder: Path,
    world_size: int,
    stop_after: int | None = None,
    spare: Path | None = None,
) -> list[Evaluated | None]:
    """What each rank got; the ranks are threads here, since no collective is involved."""
    peers = tuple(Peer(rank, *HERE) for rank in range(world_size))
    looks = iter(range(1000))
    answers: list[Evaluated | None] = [None] * world_size
    problems: list[BaseException] = []

    def run(rank: int) -> None:
        ranks = Ranks(rank, world_size, torch.device("cpu"), peers)
        stop = lambda: rank == 0 and stop_after is not None and next(looks) >= stop_after  # noqa: E731
        model = copy.deepcopy(subject.model) if world_size > 1 else subject.model
        evaluator = Evaluator(subject.config, subject.task, model, ranks, unheard, stop)
        try:
            answers[rank] = evaluator.evaluate(subject.split, Exchange(folder, spare))
        except OrchestraError as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if problems:
        raise problems[0]
    return answers


@pytest.fixture
def probe(tmp_path: Path) -> Subject:
    return subject_of(write_job(tmp_path / "run"))


def example(folder: Path) -> Subject:
    subject = subject_of(write_job(folder / "run", kind="example", task={"other_utterances": 13}))
    # No class is the untrained head's favourite.
    seen: list[torch.Tensor] = []
    hook = subject.model.head.register_forward_hook(lambda _, __, logits: seen.append(logits))
    evaluate(subject, folder / "favourite", 1)
    hook.remove()
    with torch.no_grad():
        subject.model.head.utterance.bias -= torch.cat(seen).mean(0)  # type: ignore[union-attr]
    return subject


def asr(folder: Path) -> Subject:
    """Noise of 13 different lengths, and what is said in it."""
    rows = [
        {"id": f"u{n:02}", "path": "x", "duration_s": 0.2 + 0.13 * (7 * n % 13), "text": "A CAT"}
        for n in range(13)
    ]
    write_manifest(folder / "manifests", "dev", rows, "test")
    head = {"kind": "small", "projection": 12, "hidden": 12}
    job = write_job(folder / "run", kind="asr", task={"head": head})
    subject = subject_of(job, manifests=folder / "manifests")

    def read(utterance: Utterance) -> Any:
        draw = np.random.default_rng(int(utterance.id[1:]))
        return draw.standard_normal(round(16000 * utterance.duration_s)).astype(np.float32)

    subject.task.read = read
    return subject


@pytest.mark.parametrize("world_size", [2, 3, 16])  # 11 utterances: ranks with little or nothing
def test_number_of_ranks_changes_nothing(probe: Subject, tmp_path: Path, world_size: int) -> None:
    (alone,) = evaluate(probe, tmp_path / "one", 1)
    together = evaluate(probe, tmp_path / "many", world_size)
    assert alone is not None
    assert all(answer is not None and answer.metrics == alone.metrics for answer in together)
    one, many = ((tmp_path / n / "predictions.jsonl").read_bytes() for n in ("one", "many"))
    assert one == many
    assert len(read_lines(tmp_path / "one" / "predictions.jsonl")) == 11
    assert not list((tmp_path / "many").glob("predictions.rank*"))


@pytest.mark.parametrize("make", [asr, example])
def test_neither_batch_size_nor_ranks_change_a_prediction(tmp_path: Path, make: Any) -> None:
    subject = make(tmp_path)
    found = {}
    for plan in ("1", "8", "dynamic"):
        for world_size in (1, 2, 3):
            folder = tmp_path / f"{plan}-{world_size}"
            answer, *_ = evaluate(batched(subject, plan), folder, world_size)
            assert answer is not None
            lines = (folder / "predictions.jsonl").read_bytes()
            found[plan, world_size] = (lines, json.dumps(answer.metrics))
    assert len(set(found.values())) == 1
    records = read_lines(tmp_path / "8-2" / "predictions.jsonl")
    said = [record.get("hyp", record.get("predicted")) for record in records]
    assert len(records) == 13
    assert len(set(map(str, said))) > 1, "the same guess everywhere proves nothing"


def test_a_model_that_looks_at_padding_would_be_noticed(tmp_path: Path) -> None:
    subject = asr(tmp_path)
    subject.model.head.forward = _heedless(subject.model.head)  # type: ignore[method-assign]
    lines = []
    for plan in ("1", "8"):
        evaluate(batched(subject, plan), tmp_path / plan, 1)
        lines.append((tmp_path / plan / "predictions.jsonl").read_bytes())
    assert lines[0] != lines[1]


def _heedless(head: Any) -> Any:
    """The same head, with features shifted by their mean over all frames, padded ones too."""
    own = head.forward

    def forward(features: torch.Tensor, lengths: torch.Tensor) -> Any:
        return own(features - 5 * features.abs().mean((1, 2), keepdim=True), lengths)

    return forward


def test_speed_is_that_of_all_ranks(probe: Subject, tmp_path: Path) -> None:
    files = Exchange(tmp_path / "two")
    shares = [
        Share([{"id": "a"}], 3.0, 2.0, ["a"]),
        Share([{"id": "b"}, {"id": "c"}], 6.0, 5.0, []),
    ]
    files.write("predictions.rank1.jsonl", shares[1].to_bytes())
    assert Share.read(tmp_path / "two" / "predictions.rank1.jsonl") == shares[1]
    probe.task.score = lambda records: {"loss": 1.0}
    peers = tuple(Peer(rank, *HERE) for rank in range(2))
    ranks = Ranks(0, 2, torch.device("cpu"), peers)
    evaluator = Evaluator(probe.config, probe.task, probe.model, ranks, unheard, lambda: False)
    split = Split("dev", UTTERANCES, [], None)
    evaluated = evaluator._score(split, files, shares[0], time.monotonic())
    assert evaluated.seconds_per_utterance == 9.0 / 3
    assert evaluated.real_time_factor == 7.0 / 3.0


def test_the_heart_says_what_an_evaluation_is_at(probe: Subject, tmp_path: Path) -> None:
    """Who has found the outcome is a step further while rank 0 still syncs the disk: it waits for
    a CHECKPOINT then, since an EVALUATION excuses nobody (supervise/hang.py)."""
    beats: list[tuple[Phase, float]] = []
    score = probe.task.score

    def looked(records: Any) -> Any:
        assert beats[-1] == (Phase.EVALUATION, SCORING_S), "it may take long"
        return score(records)

    class Files(Exchange):
        def write(self, name: str, data: bytes) -> None:
            last = beats[-1][0]
            assert (last is Phase.CHECKPOINT) == (name == "outcome.json")
            super().write(name, data)

    probe.task.score = looked
    files = Files(tmp_path / "files")
    beat = lambda *asked: beats.append(asked)  # noqa: E731
    ranks = Ranks(0, 1, torch.device("cpu"))
    evaluator = Evaluator(probe.config, probe.task, probe.model, ranks, beat, lambda: False)
    assert evaluator.evaluate(probe.split, files) is not None
    assert beats[0] == (Phase.EVALUATION, 0.0)


def test_a_batch_that_does_not_fit_is_named(
    probe: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(batch: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(probe.model, "predict", starve)
    ranks = Ranks(0, 1, torch.device("cpu"))
    evaluator = Evaluator(probe.config, probe.task, probe.model, ranks, unheard, lambda: False)
    with pytest.raises(OutOfMemoryError, match=r"in the prediction of .*lower batch.eval_seconds"):
        evaluator.evaluate(probe.split, Exchange(tmp_path / "files"))


def test_speed_is_measured(probe: Subject, tmp_path: Path) -> None:
    (answer,) = evaluate(probe, tmp_path / "one", 1)
    assert answer is not None
    assert 0 < answer.seconds_per_utterance * 11 <= answer.elapsed_s
    assert 0 < answer.real_time_factor * probe.split.audio_s <= answer.seconds_per_utterance * 11


def test_an_unlabelled_split_is_refused_for_validation(tmp_path: Path) -> None:
    subject = example(tmp_path)
    require_labels(subject.task, subject.split)
    bare = load_split(subject.task, "unlabelled", subject.config)
    with pytest.raises(DataError, match=r"'unlabelled' has no labels \(utterance unlabelled-00000"):
        require_labels(subject.task, bare)
    (answer,) = evaluate(replace(subject, split=bare), tmp_path / "one", 1)
    assert answer is not None
    assert answer.metrics == {}
    assert len(read_lines(tmp_path / "one" / "predictions.jsonl")) == 13


def test_a_task_without_labels_of_its_own_may_validate(
    probe: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(probe.task), "target", Task.target)
    monkeypatch.setattr(type(probe.task), "collate", Task.collate)
    require_labels(probe.task, probe.split)


@pytest.mark.parametrize("stop_after", [0, 3])
def test_stop_is_rank_0s_decision_for_all(probe: Subject, tmp_path: Path, stop_after: int) -> None:
    folder = tmp_path / "stopped"
    assert evaluate(batched(probe, "1"), folder, 2, stop_after=stop_after) == [None, None]
    assert not (folder / "predictions.jsonl").exists()


UTTERANCES = [Utterance(name, Path("/x"), 0.0, 1.0, {}) for name in "cab"]


def records(ids: str) -> list[dict[str, Any]]:
    return [{"id": name} for name in ids]


def test_merge_orders_by_id() -> None:
    assert merge(records("bca"), UTTERANCES) == records("abc")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("ab", "utterances c have no prediction"),
        ("abcb", "utterances b were predicted more than once"),
        ("abcx", "utterances x are not in the split"),
    ],
)
def test_missing_double_and_foreign_ids_are_errors(ids: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        merge(records(ids), UTTERANCES)


def test_waiting_ends_with_the_peers_life(tmp_path: Path) -> None:
    peer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    waiting_for = Peer(1, peer.pid, start_ticks(peer.pid) or 0)
    looks: list[int] = []

    def tick() -> None:
        looks.append(1)
        if len(looks) == 3:
            peer.communicate(b"\n")

    with pytest.raises(OrchestraError, match="rank 1 died before"):
        Exchange(tmp_path).wait_for("never", waiting_for, tick)
    assert len(looks) >= 3, "the heart did not beat while waiting"
    (tmp_path / "there").touch()
    Exchange(tmp_path).wait_for("there", waiting_for, tick)  # committed before it died: fine


@pytest.mark.parametrize("full", [(0, 1), (0,), (1,)])
def test_what_a_full_disk_does_not_take_is_handed_over_in_memory(
    probe: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: tuple[int, ...]
) -> None:
    """Whichever rank meets it; the disk itself is a real one in test_full_disk.py."""
    (alone,) = evaluate(probe, tmp_path / "one", 1)
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    memory.mkdir()
    names = [("outcome.json", "predictions.jsonl"), ("predictions.rank1.jsonl",)]
    refused = {name for rank in full for name in names[rank]}

    def write(path: Path, data: bytes) -> None:
        if path.parent == disk and path.name in refused:
            raise DiskFullError("full")
        write_atomic(path, data)

    monkeypatch.setattr(rendezvous, "write_atomic", write)
    answers = evaluate(probe, disk, 2, spare=memory)
    assert alone is not None
    assert all(answer is not None and answer.metrics == alone.metrics for answer in answers)
    assert {path.name for path in memory.iterdir()} == {f"disk.{name}" for name in names[0]} & {
        f"disk.{name}" for name in refused
    }
    Exchange(disk, memory).remove()
    assert not disk.exists() and not list(memory.iterdir())
    if 0 in full:
        with pytest.raises(DiskFullError):
            evaluate(probe, disk, 1)
