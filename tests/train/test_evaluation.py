"""Evaluation: the same records whatever the number of ranks; every id exactly once."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.train.distributed import Peer, Ranks
from orchestra.train.evaluation import Evaluated, Evaluator, load_split, merge, read_lines
from orchestra.train.model import build_model
from orchestra.train.rendezvous import wait_for_file
from orchestra.wire.errors import DataError, OrchestraError
from orchestra.wire.folders import Job
from orchestra.wire.identity import start_ticks
from orchestra.wire.manifest import Utterance
from tests.exactness.launching import WORKSPACE, write_job

HERE = (os.getpid(), start_ticks(os.getpid()) or 0)


def evaluate(
    job: Job, folder: Path, world_size: int, budget_s: float = 3.0, stop_after: int | None = None
) -> list[Evaluated | None]:
    """What each rank got; the ranks are threads here, since no collective is involved."""
    from orchestra.config.frozen import read_frozen

    config, info = read_frozen(job.config, WORKSPACE)
    task = info.task_class()(config.task, config.data)
    batch = config.batch.model_copy(update={"eval_seconds": budget_s})
    config = config.model_copy(update={"batch": batch})
    split = load_split(task, "dev", config)
    model = build_model(config, task)
    peers = tuple(Peer(rank, *HERE) for rank in range(world_size))
    looks = iter(range(1000))
    answers: list[Evaluated | None] = [None] * world_size
    problems: list[BaseException] = []

    def run(rank: int) -> None:
        ranks = Ranks(rank, world_size, torch.device("cpu"), peers)
        stop = lambda: rank == 0 and stop_after is not None and next(looks) >= stop_after  # noqa: E731
        evaluator = Evaluator(config, task, copy.deepcopy(model), ranks, lambda: None, stop)
        try:
            answers[rank] = evaluator.evaluate(split, folder)
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
def job(tmp_path: Path) -> Job:
    return write_job(tmp_path / "run")


@pytest.mark.parametrize("world_size", [2, 3, 16])  # 11 utterances: ranks with little or nothing
def test_number_of_ranks_changes_nothing(job: Job, tmp_path: Path, world_size: int) -> None:
    (alone,) = evaluate(job, tmp_path / "one", 1)
    together = evaluate(job, tmp_path / "many", world_size)
    assert alone is not None
    assert all(answer is not None and answer.metrics == alone.metrics for answer in together)
    one, many = ((tmp_path / n / "predictions.jsonl").read_bytes() for n in ("one", "many"))
    assert one == many
    assert len(read_lines(tmp_path / "one" / "predictions.jsonl")) == 11
    assert not list((tmp_path / "many").glob("predictions.rank*"))


def test_batch_size_changes_nothing_that_counts(job: Job, tmp_path: Path) -> None:
    losses = []
    for name, budget_s in (("single", 0.01), ("big", 100.0)):
        evaluate(job, tmp_path / name, 1, budget_s)
        losses.append([r["loss"] for r in read_lines(tmp_path / name / "predictions.jsonl")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("stop_after", [0, 3])
def test_stop_is_rank_0s_decision_for_all(job: Job, tmp_path: Path, stop_after: int) -> None:
    folder = tmp_path / "stopped"
    assert evaluate(job, folder, 2, budget_s=0.01, stop_after=stop_after) == [None, None]
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
        wait_for_file(tmp_path / "never", waiting_for, tick)
    assert len(looks) >= 3, "the heart did not beat while waiting"
    (tmp_path / "there").touch()
    wait_for_file(tmp_path / "there", waiting_for, tick)  # committed before it died: fine
