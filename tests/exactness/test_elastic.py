"""A run that goes on with another number of ranks: the same samples in the same steps.

The result is close, not equal bit for bit: other world sizes add the same gradients in another
order. BatchNorm's running statistics are those of rank 0's micro-batches, hence other ones. The
probe's bias before its batch norm has no gradient but rounding errors, which Adam makes steps of.
"""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from orchestra.wire.folders import Job
from orchestra.wire.job import Result
from tests.exactness.conftest import Straight
from tests.exactness.launching import Kill, consumed, ids_of, launch, log_of, write_job

pytestmark = [pytest.mark.slow, pytest.mark.exactness, pytest.mark.xdist_group("ranks 4")]

BATCH = {"micro_batches": 4}
UTTERANCES = 90
RELATIVE_ERROR = 1e-5


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Two ranks, then one, then four; each change in the middle of an epoch."""
    job = write_job(tmp_path_factory.mktemp("elastic") / "run", batch=BATCH)
    assert launch(job, ranks=2, kill=Kill(1, step=5, batch=1, once_saved=5)) != 0
    in_second = Kill(0, step=9, batch=3, once_saved=8)
    assert launch(job, ranks=1, attempt=2, kill=in_second) != 0
    assert launch(job, ranks=4, attempt=3) == 0, log_of(job, 3)
    assert Result.read(job.attempt(3)) == Result("completed", 12)
    return job


def test_the_same_samples_in_the_same_steps(straight: Straight, elastic: Job) -> None:
    assert consumed(elastic) == consumed(straight(2, batch=BATCH))


def test_every_sample_of_an_epoch_is_seen_once(elastic: Job) -> None:
    steps = consumed(elastic)
    seen = [name for step in sorted(steps) for name in ids_of(steps[step])]
    epochs = [seen[n : n + UTTERANCES] for n in range(0, len(seen), UTTERANCES)]
    assert len(epochs) >= 3
    for epoch in epochs[:-1]:
        assert len(set(epoch)) == UTTERANCES
    assert len(set(epochs[-1])) == len(epochs[-1])


def test_the_result_is_close(straight: Straight, elastic: Job) -> None:
    whole, changed = _weights(straight(2, batch=BATCH)), _weights(elastic)
    assert whole.keys() == changed.keys()
    for name, tensor in whole.items():
        error = (tensor - changed[name]).abs().max() / tensor.abs().max()
        assert error <= RELATIVE_ERROR, name


def test_a_rank_in_the_wrong_place_would_be_noticed(straight: Straight, elastic: Job) -> None:
    """What the comparison is worth: it sees two ids that change places."""
    steps = consumed(elastic)
    first, second = (steps[11][number] for number in (0, 1))
    first[0], second[0] = second[0], first[0]
    assert steps != consumed(straight(2, batch=BATCH))


def _weights(job: Job) -> dict[str, torch.Tensor]:
    """The parameters at the end that samples and steps alone decide."""
    tensors = safetensors.torch.load_file(job.run.checkpoint(12) / "model.safetensors")
    others = ("running_mean", "running_var", "num_batches_tracked", "inner.bias")
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(others)}
