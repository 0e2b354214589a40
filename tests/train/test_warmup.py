"""The warm-up: the worst batches, no trace in the model, out of memory told with the remedy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.config.schema import OptimConfig
from orchestra.data.loader import Request
from orchestra.tasks import Batch, LossTerms
from orchestra.train import warmup
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.session import Session
from orchestra.train.training_data import TrainingData, load_training_data
from orchestra.train.warmup import Warm, state_copies, warm_up
from orchestra.wire.errors import DataError, OrchestraError, OutOfMemoryError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.job import CODE
from tests.exactness.launching import REPOSITORY, WORKSPACE, log_of, write_job
from tests.supervise.test_failure import CUBLAS_FULL, CUDA_ERROR, CUDNN_FULL
from tests.train.running import open_here, records_of, run_here

CPU = torch.device("cpu")


class Prepared:
    """A session of the probe, its data and its model."""

    def __init__(self, folder: Path, **tables: dict[str, Any]) -> None:
        self.session: Session = open_here(write_job(folder / "run", **tables))
        self.data: TrainingData = load_training_data(self.session)
        self.model: SpeechModel = build_model(self.session.config, self.session.task)

    def warm_up(self) -> Warm:
        batches = self.data.worst_batches(CPU)
        return warm_up(self.session.config, self.model, self.model, batches)

    def change_loss(self, monkeypatch: pytest.MonkeyPatch, before: Callable[[Batch], None]) -> None:
        loss = self.session.task.loss

        def changed(head: Any, features: Any, lengths: Any, batch: Batch) -> LossTerms:
            before(batch)
            return loss(head, features, lengths, batch)

        monkeypatch.setattr(self.session.task, "loss", changed)


def samples(batch: Batch) -> int:
    """Padded."""
    return batch.wavs.numel()


def test_the_batches_are_the_worst_of_the_epoch(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    longest, largest = prepared.data.worst_batches(CPU)
    steps = prepared.data.planner.epoch(0)
    epoch = [prepared.data.loader.read(Request(0, micro)) for step in steps for micro in step]
    assert samples(largest) == max(samples(batch) for batch in epoch)
    assert int(longest.lengths.max()) == max(int(batch.lengths.max()) for batch in epoch)
    assert samples(largest) > 2 * min(samples(batch) for batch in epoch)


def test_where_micro_batches_are_cut_the_worst_parts_count(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    whole = prepared.data.worst_batches(CPU)
    parts = replace(prepared.data, split=2).worst_batches(CPU)
    assert samples(parts[1]) <= 0.7 * samples(whole[1])
    assert int(parts[0].lengths.max()) == int(whole[0].lengths.max())


def test_nothing_of_it_is_left_in_the_model(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    before = {name: tensor.clone() for name, tensor in prepared.model.saved_state().items()}
    assert before["head.norm.num_batches_tracked"] == 0
    prepared.warm_up()
    for name, tensor in prepared.model.saved_state().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in prepared.model.parameters())
    batch = prepared.data.worst_batches(CPU)[0]
    prepared.model(batch)
    assert prepared.model.saved_state()["head.norm.num_batches_tracked"] == 1, "no pass changes it"


def test_the_second_pass_meets_the_gradients_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared(tmp_path)
    held: list[bool] = []

    def look(batch: Batch) -> None:
        held.append(all(p.grad is not None for p in prepared.model.head.parameters()))

    prepared.change_loss(monkeypatch, look)
    prepared.warm_up()
    assert held == [False, True]


def test_the_slowest_pass_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, clock = Prepared(tmp_path), [0.0]
    monkeypatch.setattr(warmup.time, "monotonic", lambda: clock[0])
    durations_s = iter([7.0, 3.0])

    def take_a_while(batch: Batch) -> None:
        clock[0] += next(durations_s)

    prepared.change_loss(monkeypatch, take_a_while)
    assert prepared.warm_up().slowest_s == 7.0


def test_a_parameter_without_a_gradient_is_named(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    prepared.model.head.unused = torch.nn.Linear(2, 2)
    with pytest.raises(OrchestraError, match=r"2 trainable .*: head\.unused\.weight"):
        prepared.warm_up()


@pytest.mark.parametrize("cpu", [False, True])
def test_out_of_memory_names_the_batch_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: bool
) -> None:
    prepared = Prepared(tmp_path)
    longest, largest = prepared.data.worst_batches(CPU)
    assert samples(longest) < samples(largest)

    def need_memory(batch: Batch) -> None:
        if samples(batch) < samples(largest):
            return
        if cpu:
            torch.empty(2**60)  # more than any address space
        raise torch.OutOfMemoryError("CUDA out of memory.")

    prepared.change_loss(monkeypatch, need_memory)
    with pytest.raises(OutOfMemoryError) as caught:
        prepared.warm_up()
    said = str(caught.value)
    seconds = int(largest.lengths.max()) / 16000
    assert f"{len(largest.ids)} x {seconds:.1f} s" in said
    assert "lower batch.max_micro_seconds (now 3) or set launch.oom_split = true" in said
    assert largest.ids[0] in said


@pytest.mark.parametrize("said", [CUDA_ERROR, CUBLAS_FULL, CUDNN_FULL])
def test_libraries_run_out_of_memory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    prepared = Prepared(tmp_path)

    def fail(batch: Batch) -> None:
        raise RuntimeError(said)

    prepared.change_loss(monkeypatch, fail)
    with pytest.raises(OutOfMemoryError, match=r"lower batch\.max_micro_seconds"):
        prepared.warm_up()


def test_another_runtime_error_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared(tmp_path)

    def fail(batch: Batch) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    prepared.change_loss(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        prepared.warm_up()


def test_one_utterance_that_does_not_fit_is_to_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {"seconds": 0.1, "max_micro_seconds": 0.4, "micro_batches": 2, "too_long": "isolate"}
    prepared = Prepared(tmp_path, batch=alone)

    def need_memory(batch: Batch) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    prepared.change_loss(monkeypatch, need_memory)
    with pytest.raises(
        OutOfMemoryError, match=r"1 x 0\.5 s .* nothing to split: cut this utterance .*: train-\d+$"
    ):
        prepared.warm_up()


def test_what_is_too_long_is_refused_or_noticed(tmp_path: Path) -> None:
    batch = {"max_micro_seconds": 0.45}
    with pytest.raises(DataError, match=r"train-12 \(0\.5 s\)"):
        Prepared(tmp_path / "refuse", batch=batch)
    prepared = Prepared(tmp_path / "isolate", batch={**batch, "too_long": "isolate"})
    (notice,) = prepared.data.notices
    assert "6 utterances are longer than batch.max_micro_seconds = 0.45; " in notice
    assert "train-12 (0.5 s)" in notice and "micro-batch of its own" in notice
    assert Prepared(tmp_path / "fits").data.notices == ()


def test_the_start_of_a_run_records_its_plan(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", train={"max_steps": 1})
    start = run_here(job)[0]
    assert start.kind == "start"
    plan = start.values["plan"]
    assert plan["steps"] * 6 <= plan["micro_batches"] < plan["steps"] * 12
    assert 0 < plan["padding"] < 0.3 and 0.5 < plan["fill"] <= 1


@pytest.mark.parametrize(
    ("keys", "copies"),
    [
        ({"kind": "adamw"}, 2),
        ({"kind": "adam"}, 2),
        ({"kind": "sgd"}, 0),
        ({"kind": "sgd", "momentum": 0.9}, 1),
    ],
)
def test_what_is_reserved_is_what_the_optimizer_allocates(
    keys: dict[str, Any], copies: int
) -> None:
    assert state_copies(OptimConfig(lr=0.1, **keys)) == copies
    parameter = torch.nn.Parameter(torch.ones(50, 50))
    made = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    momentum = {"momentum": keys["momentum"]} if "momentum" in keys else {}
    optimizer = made[keys["kind"]]([parameter], lr=0.1, **momentum)
    parameter.grad = torch.ones(50, 50)
    optimizer.step()
    state = [t for t in optimizer.state[parameter].values() if isinstance(t, torch.Tensor)]
    assert sum(tensor.numel() for tensor in state) // 2500 == copies


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("loss(self, *_)", "out of memory in a forward and backward pass"),
        (
            "utterances(self, split)",
            "out of memory: CUDA out of memory.",
        ),  # where nobody expects it
    ],
)
def test_a_run_without_enough_memory_ends_at_once_and_says_so(
    tmp_path: Path, method: str, said: str
) -> None:
    shutil.copytree(WORKSPACE, tmp_path / "code")
    with (tmp_path / "code/tasks/probe/task.py").open("a") as file:
        file.write(
            f"""

class Hungry(Task):
    def {method}:
        raise torch.OutOfMemoryError("CUDA out of memory.")


Task = Hungry
"""
        )
    job = write_job(tmp_path / "run", train={"max_steps": 2})
    arguments = ["--job", str(job.folder), "--kind", "train", "--attempt", "1"]
    ended = subprocess.run(
        [sys.executable, "-m", "orchestra.train.rank", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), CODE: str(tmp_path / "code")},
        timeout=120,
        check=False,
    )
    assert ended.returncode == ExitCode.OUT_OF_MEMORY, log_of(job)
    log = log_of(job)
    assert said in log
    assert "Traceback" not in log
    assert not records_of(job)
