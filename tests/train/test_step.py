"""The gradient of a step is that of one big batch; decisions are the same on all ranks."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from orchestra.tasks import Batch, LossTerms
from orchestra.train.distributed import Ranks
from orchestra.train.precision import LOWEST_SCALE
from orchestra.wire.errors import OutOfMemoryError
from orchestra.wire.exit_codes import ExitCode
from tests.train import gradient_ranks
from tests.train.gradient_ranks import CLIP, FITTING_SCALE, Here
from tests.train.together import run_together
from tests.train.toy import MICRO_BATCHES, Toy, batch, gradients_by_name

ALONE = Ranks(0, 1, torch.device("cpu"))
TOLERANCES = {
    "float64": 1e-10,
    "float64 split": 1e-10,
    "float64 split in many": 1e-10,
    "float32": 1e-5,
    "bf16": 0.02,
    "fp16": 0.003,
}
"""Of a gradient, relative to each tensor's maximum; in half precision (8 and 11 bits) to that of
all tensors, since a bias sums up what nearly cancels."""

Answers = list[dict[str, Any]]


@pytest.fixture(scope="module", params=[2, 3])
def answers(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Answers:
    """What two or three real ranks found."""
    folder, world_size = tmp_path_factory.mktemp("gradients"), request.param
    run_together(gradient_ranks, world_size, world_size, folder / "store", folder / "out")
    return [json.loads((folder / f"out.{rank}").read_text()) for rank in range(world_size)]


def all_terms(model: Toy) -> list[LossTerms]:
    return [model(batch(number, torch.float64)) for number in range(len(MICRO_BATCHES))]


def one_big_batch(*, mean_of_means: bool = False) -> dict[str, Tensor]:
    """The gradient by plain torch in float64."""
    model = Toy(torch.float64)
    terms = all_terms(model)
    if mean_of_means:
        loss = torch.stack([t.sum / t.weight for t in terms]).mean()
    else:
        loss = torch.stack([t.sum for t in terms]).sum() / sum(MICRO_BATCHES)
    loss.backward()
    return gradients_by_name(model)


def distance(
    found: dict[str, list[float]], expected: dict[str, Tensor], *, whole: bool = False
) -> float:
    """The largest difference, relative to each tensor's maximum or to that of the whole."""
    assert found.keys() == expected.keys()
    top = max(float(wanted.abs().max()) for wanted in expected.values())
    return max(
        float((torch.tensor(values, dtype=torch.float64) - wanted.flatten()).abs().max())
        / (top if whole else float(wanted.abs().max()))
        for values, wanted in zip(found.values(), expected.values(), strict=True)
    )


@pytest.mark.parametrize("case", TOLERANCES)
def test_uneven_micro_batches_give_the_gradient_of_one_big_batch(
    answers: Answers, case: str
) -> None:
    half = case in ("bf16", "fp16")
    for answer in answers:
        found = answer["applied"][case]["gradient"]
        assert distance(found, one_big_batch(), whole=half) < TOLERANCES[case]
        other = one_big_batch(mean_of_means=True)  # the control
        assert distance(found, other, whole=half) > 2 * TOLERANCES["bf16"]


def test_clipping_bounds_the_norm_over_all_parameters(answers: Answers) -> None:
    expected = one_big_batch()
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in expected.values()))
    clipped = {name: gradient * CLIP / norm for name, gradient in expected.items()}
    for answer in answers:
        found = answer["applied"]["float64 clipped"]
        assert found["norm"] == pytest.approx(norm, abs=1e-10)
        # torch adds 1e-6 to the norm it divides by
        assert distance(found["gradient"], clipped) < 2e-6 / norm


@pytest.mark.parametrize("case", [*TOLERANCES, "float64 clipped"])
def test_ranks_end_alike(answers: Answers, case: str) -> None:
    first, *others = (answer["applied"][case] for answer in answers)
    assert all(other == first for other in others)


def test_gradients_are_exchanged_once_in_a_step(answers: Answers) -> None:
    """Also where micro-batches are cut."""
    assert [answer["exchanges"] for answer in answers] == [[1, 1]] * len(answers)


def test_ranks_agree_on_sums_and_stop(answers: Answers) -> None:
    found = answers[0]["applied"]["float64"]
    assert found["weight"] == sum(MICRO_BATCHES)
    assert (found["stop"], found["expired"]) == (True, False)  # rank 1 alone asked for it
    terms = all_terms(Toy(torch.float64))
    assert found["sums"]["loss"] == pytest.approx(sum(t.sum.item() for t in terms))
    absolute = sum(t.scalars["absolute"].item() for t in terms)
    assert found["sums"]["absolute"] == pytest.approx(absolute)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_a_bad_loss_on_one_rank_skips_the_step_on_all(
    answers: Answers, kind: str, precision: str
) -> None:
    for rank, answer in enumerate(answers):
        found = answer["skipped"][f"{kind} {precision}"]
        assert not (found["applied"] or found["overflow"] or found["finite"])
        assert found["untouched"]
        assert ("loss" in found["non_finite"]) == (rank == 1)
        assert "gradient of inner.weight" in found["non_finite"]
        assert found["then"]
        assert found["weights"] == answers[0]["skipped"][f"{kind} {precision}"]["weights"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_bad_gradient_of_a_good_loss_skips_the_step_on_all(
    answers: Answers, precision: str
) -> None:
    for answer in answers:
        found = answer["skipped"][f"bad gradient {precision}"]
        assert found["finite"]
        assert not (found["applied"] or found["overflow"])
        assert found["untouched"]
        assert found["non_finite"] == ["gradient of outer.bias"]
        assert found["then"]


def test_an_fp16_overflow_on_one_rank_lowers_the_scale_on_all(answers: Answers) -> None:
    for answer in answers:
        found = answer["skipped"]["far fp16"]
        assert (found["applied"], found["overflow"]) == (False, True)
        assert found["untouched"]
        assert found["non_finite"] == []
        assert found["scale"] == FITTING_SCALE / 2
        assert found["then"]
        # The control: without the scale the same batch is none too much.
        assert answer["skipped"]["far bf16"]["applied"]


def test_a_fresh_fp16_scale_finds_its_level() -> None:
    here = Here(ALONE, precision="fp16")
    here.stepper.load_scaler_state({**here.stepper.scaler_state(), "scale": 2.0**16})
    assert here.take().overflow
    assert any(here.take().applied for _ in range(16))


def test_at_the_lowest_scale_an_overflow_is_a_fault() -> None:
    here = Here(ALONE, precision="fp16")
    here.stepper.load_scaler_state({**here.stepper.scaler_state(), "scale": 2 * LOWEST_SCALE})
    first, second, third = (here.take({1: "bad gradient"}) for _ in range(3))
    assert (first.overflow, first.non_finite) == (True, ())
    for step in (second, third):
        assert (step.applied, step.overflow) == (False, False)
        assert step.non_finite == ("gradient of outer.bias",)
    assert here.stepper.scaler_state()["scale"] == LOWEST_SCALE


def test_the_scale_is_restored_with_its_count_of_good_steps() -> None:
    here, resumed, other = (Here(ALONE, precision="fp16") for _ in range(3))
    state = {**here.stepper.scaler_state(), "growth_interval": 3}
    here.stepper.load_scaler_state(state)
    for _ in range(2):
        here.take()
    resumed.stepper.load_scaler_state(json.loads(json.dumps(here.stepper.scaler_state())))
    other.stepper.load_scaler_state(state)
    for each in (here, resumed, other):
        each.take()
    assert here.stepper.scaler_state()["scale"] == 2 * FITTING_SCALE
    assert resumed.stepper.scaler_state() == here.stepper.scaler_state()
    assert other.stepper.scaler_state()["scale"] == FITTING_SCALE  # the control: no count


def test_other_precisions_have_no_scale() -> None:
    stepper = Here(ALONE).stepper
    assert stepper.scaler_state() == {}
    stepper.load_scaler_state(Here(ALONE, precision="fp16").stepper.scaler_state())
    assert stepper.scaler_state() == {}


def test_what_a_step_consumed_is_kept_till_the_next() -> None:
    here = Here(ALONE)
    for kind in ("good", "nan"):
        here.take({4: kind})
        numbers, batches = zip(*here.stepper.consumed, strict=True)
        assert numbers == tuple(range(len(MICRO_BATCHES)))
        assert [len(b.lengths) for b in batches] == MICRO_BATCHES
        assert batches[4].ids == [kind]


@pytest.mark.parametrize("split", [1, 2, 100])
def test_a_cut_step_of_one_rank_has_the_same_gradient(split: int) -> None:
    found = gradient_ranks.applied_step(ALONE, dtype=torch.float64, split=split)
    assert distance(found["gradient"], one_big_batch()) < 1e-10
    assert found["weight"] == sum(MICRO_BATCHES)


def test_parts_are_consumed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[tuple[int | str, ...]] = []
    monkeypatch.setattr("orchestra.train.seeds.reseed", lambda seed, *key: seeds.append(key))
    here = Here(ALONE, split=2)
    here.take()
    numbers, batches = zip(*here.stepper.consumed, strict=True)
    assert numbers == (0, 0, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    assert [len(b.wavs) for b in batches] == [1, 2, 1, 3, 4, 1, 1, 2, 3, 2, 2]
    # The first part is seeded like a whole micro-batch, the others are told apart.
    assert seeds[:4] == [("step", 0, 0), ("step", 0, 0, 1), ("step", 0, 1), ("step", 0, 2)]
    assert len(set(seeds)) == len(seeds)


def test_the_heart_knows_what_is_at_work() -> None:
    here = Here(ALONE)
    here.take({4: "nan"})
    assert here.noted == [["good"]] * 4 + [["nan"], ["good"]]


def test_out_of_memory_in_a_step_names_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here(ALONE)

    def starve(batch: Batch) -> LossTerms:
        if batch.ids == ["far"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return Toy.forward(here.model, batch)

    monkeypatch.setattr(here.model, "forward", starve)
    with pytest.raises(OutOfMemoryError) as caught:
        here.take({2: "far"})
    assert "out of memory in a training step of 1 x" in str(caught.value)
    assert "there is nothing to split: cut this utterance" in str(caught.value)
    assert str(caught.value).endswith("utterances: far")
    assert caught.value.exit_code == ExitCode.OUT_OF_MEMORY


def test_what_is_frozen_takes_no_part() -> None:
    here = Here(ALONE)
    here.model.inner.requires_grad_(False)
    here.stepper.model = here.model
    before = here.model.inner.weight.detach().clone()
    taken = here.take()
    assert torch.equal(here.model.inner.weight, before)
    expected = [g for n, g in one_big_batch().items() if n.startswith("outer.")]
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in expected))
    assert taken.grad_norm == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("flag", ["stop", "expired"])
def test_a_stop_and_the_end_of_the_time_are_two_things(flag: str) -> None:
    totals = Here(ALONE).take(**{flag: True}).totals
    assert (totals.stop, totals.expired) == (flag == "stop", flag == "expired")


def test_the_logged_rate_is_optim_lr_by_the_schedule() -> None:
    taken = Here(ALONE).take()
    assert taken.lr == 1.0


def test_a_loss_on_the_cpu_meets_the_others_on_the_device() -> None:
    """As asr's does under train.deterministic; tensors without data need no GPU."""

    def on_the_cpu(wavs: Tensor) -> LossTerms:
        loss = torch.zeros((), requires_grad=True)
        return LossTerms(loss, torch.ones(()), {"absolute": torch.zeros(())})

    here = Here(Ranks(0, 1, torch.device("cuda", 0)))
    here.stepper._wrapped = on_the_cpu  # type: ignore[assignment]
    with FakeTensorMode():
        word, _ = here.stepper._accumulate(0, [0, 1], iter([batch(0), batch(1)]), [False, False])
    assert word().device.type == "cuda"
