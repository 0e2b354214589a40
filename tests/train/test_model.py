"""The model as a whole: regularisers in place, weights that don't fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.config.frozen import dump, load, validate
from orchestra.tasks import Batch, LossTerms
from orchestra.train import checkpoint, trainer
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.seeds import reseed
from orchestra.wire.errors import UsageError
from orchestra.wire.folders import Job
from orchestra.wire.job import Result, StopFlag
from tests.exactness.launching import final_state, launch, log_of, write_job
from tests.train.exporting import tuning_job
from tests.train.running import config_of, open_here, records_of, run_here
from tests.upstreams.conftest import SaveModel

ALL = {"label_smoothing": 0.1, "r_drop": 0.5, "vat": 0.5, "vat_epsilon": 0.1}
SMALL = {"batch": {"micro_batches": 3}}


def model_of(job: Job) -> tuple[SpeechModel, Any]:
    config, info = config_of(job)
    task = info.task_class()(config.task, config.data)
    return build_model(config, task), task


def batch_of(task: Any, count: int = 3) -> Batch:
    chosen = task.utterances("train")[:count]
    wavs = [torch.from_numpy(task.read(utterance)) for utterance in chosen]
    return Batch(
        [utterance.id for utterance in chosen],
        torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True),
        torch.tensor([len(wav) for wav in wavs]),
        task.collate([task.target(utterance) for utterance in chosen]),
        list(range(count)),
        chosen,
    )


def test_without_regularisers_the_loss_is_the_tasks_bit_for_bit(tmp_path: Path) -> None:
    model, task = model_of(write_job(tmp_path / "run"))
    batch = batch_of(task)
    reseed(1, "dropout")
    terms = model(batch)
    reseed(1, "dropout")
    expected = task.loss(model.head, *model._features(batch), batch)
    assert torch.equal(terms.sum, expected.sum)
    assert terms.scalars == expected.scalars


@pytest.mark.parametrize(("trainable", "passes"), [(True, 2), (False, 1)])
def test_r_drops_second_pass_is_that_of_all_that_is_trained(
    tmp_path: Path, save_model: SaveModel, trainable: bool, passes: int
) -> None:
    job = tuning_job(tmp_path / "run", save_model("wav2vec2"), trainable=trainable)
    document = load(job.config) | {"regularise": {"r_drop": 1.0}}
    job.config.write_bytes(dump(validate(document, config_of(job)[1])))
    model, task = model_of(job)
    calls: list[int] = []
    model.upstream.register_forward_hook(lambda *_: calls.append(1))
    terms: LossTerms = model(batch_of(task))
    assert len(calls) == passes
    terms.sum.backward()  # type: ignore[no-untyped-call]
    assert (model.upstream.model.encoder.layers[0].attention.k_proj.weight.grad is not None) == (
        trainable
    )


def test_a_task_without_outputs_is_told_before_the_first_step(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", **SMALL, regularise={"vat": 1.0})
    session = open_here(job)
    loss = session.task.loss

    def mute(*arguments: Any) -> LossTerms:
        terms = loss(*arguments)
        return LossTerms(terms.sum, terms.weight)

    session.task.loss = mute  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=r"task 'probe' .*regularise\.vat needs"):
        trainer.train(session)
    assert not [record for record in records_of(job) if record.kind == "train"]


def test_regularised_run_resumes_as_if_never_stopped(tmp_path: Path) -> None:
    whole, stopped = (
        write_job(tmp_path / name, **SMALL, regularise=ALL, train={"max_steps": 4})
        for name in ("whole", "stopped")
    )
    records = run_here(whole)
    scalars = next(record.values for record in records if record.kind == "train")
    assert scalars["r_drop"] > 0
    assert scalars["vat"] > 0
    StopFlag(0.0, 30.0).write(stopped)
    for attempt in (1, 2):
        run_here(stopped, attempt)
    stopped.stop.unlink()
    run_here(stopped, 3)
    assert Result.read(stopped.attempt(3)) == Result("completed", 4)
    assert final_state(stopped, 4) == final_state(whole, 4)


@pytest.mark.slow
def test_regularised_ranks_take_the_step_of_one(tmp_path: Path) -> None:
    """VAT asks for a gradient in the middle of DDP's forward pass; R-Drop passes twice."""
    parameters = []
    for ranks in (1, 2):
        job = write_job(
            tmp_path / f"on-{ranks}",
            regularise=ALL,
            optim={"kind": "sgd", "lr": 0.3},
            train={"max_steps": 2, "eval_every": 2},
            checkpoint={"every": 2},
        )
        if ranks == 1:
            run_here(job)
        else:
            assert launch(job, ranks=ranks, torchrun=False) == 0, log_of(job)
        weights = checkpoint.read_weights(job.run.checkpoint(2))
        names = dict(model_of(job)[0].named_parameters())
        parameters.append({name: weights[name] for name in names})
    torch.testing.assert_close(parameters[0], parameters[1], rtol=1e-4, atol=1e-6)


def test_weights_that_do_not_fit_are_named_with_both_shapes(tmp_path: Path) -> None:
    model, _ = model_of(write_job(tmp_path / "run"))
    state = dict(model.saved_state())
    state["head.inner.weight"] = torch.zeros(48, 7)
    state["head.more"] = torch.zeros(2, dtype=torch.float64)
    del state["head.outer.bias"]
    with pytest.raises(UsageError) as caught:
        model.load_saved_state(state)
    assert str(caught.value) == (
        "the checkpoint is of another model: 3 tensors differ: "
        "head.inner.weight is float32[48, 7] instead of float32[48, 20]; "
        "head.more float64[2] is unknown; and 1 more"
    )


def test_a_long_list_of_misfits_is_cut(tmp_path: Path) -> None:
    model, _ = model_of(write_job(tmp_path / "run"))
    state = {**model.saved_state(), **{f"x{n:03}": torch.zeros(1) for n in range(100)}}
    with pytest.raises(UsageError, match=r"100 tensors differ: x000 .* is unknown; and \d+ more$"):
        model.load_saved_state(state)
