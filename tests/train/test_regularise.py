"""Regularisers: their formulas, and that they stay exact over uneven micro-batches."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestra.config.schema import DataConfig, RegulariseConfig
from orchestra.tasks import Batch, LossTerms, Outputs, Task, discover
from orchestra.train import regularise
from orchestra.train.regularise import divergence, label_smoothing, r_drop, regularised
from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import UsageError
from orchestra.wire.manifest import Utterance

DIM = 6
LENGTHS = [31, 12, 25, 19, 8]
TEXTS = ["THE CAT", "A", "BOOK", "SO IT", ""]
ALL = {"label_smoothing": 0.1, "r_drop": 0.7, "vat": 0.5, "vat_epsilon": 0.3, "vat_iterations": 2}

Encoded = tuple[Tensor, Tensor]


def task_of(kind: str, dropout: float) -> tuple[Task, nn.Module]:
    """A small task without SpecAugment, and its head, in float64."""
    info = discover(Path("/nowhere"))[kind]
    tables: dict[str, Any] = {"example": {"dropout": dropout}, "asr": asr(dropout)}
    config = info.config_model().model_validate(tables[kind])
    task = info.task_class()(config, DataConfig())
    torch.manual_seed(0)
    return task, task.build_head(DIM, 160).double()


def asr(dropout: float) -> dict[str, Any]:
    head = {"kind": "small", "frame_ms": 20, "projection": 8, "hidden": 8, "dropout": dropout}
    return {"head": head, "spec_augment": {"time_warp": 0, "time_masks": 0, "feature_masks": 0}}


def batch_of(task: Task, rows: list[int], padding: float = 0.0) -> tuple[Tensor, Tensor, Batch]:
    """Features, lengths and batch of some of the utterances."""
    utterances = [
        Utterance(f"u{row}", Path("x"), 0.0, 1.0, {"text": TEXTS[row], "label": row % 4})
        for row in rows
    ]
    lengths = torch.tensor([LENGTHS[row] for row in rows])
    features = torch.full((len(rows), int(lengths.max()), DIM), padding, dtype=torch.float64)
    for place, row in enumerate(rows):
        generator = torch.Generator().manual_seed(row)
        features[place, : LENGTHS[row]] = torch.randn(
            LENGTHS[row], DIM, generator=generator, dtype=torch.float64
        )
    targets = task.collate([task.target(utterance) for utterance in utterances])
    ids = [utterance.id for utterance in utterances]
    return features, lengths, Batch(ids, features[:, :, 0], lengths, targets, rows, utterances)


def terms_of(
    task: Task, head: nn.Module, rows: list[int], config: dict[str, Any], padding: float = 0.0
) -> LossTerms:
    features, lengths, batch = batch_of(task, rows, padding)
    second = lambda: (features, lengths)  # noqa: E731
    chosen = RegulariseConfig.model_validate(config)
    return regularised(chosen, task, head, features, lengths, batch, second)


def gradients(task: Task, head: nn.Module, parts: list[list[int]], config: Any) -> list[Tensor]:
    """Of (sum of losses) / (sum of weights) over micro-batches `parts`."""
    head = copy.deepcopy(head)
    weight = 0.0
    for rows in parts:
        terms = terms_of(task, head, rows, config)
        terms.sum.backward()  # type: ignore[no-untyped-call]
        weight += float(terms.weight)
    return [p.grad / weight for p in head.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", ["example", "asr"])
@pytest.mark.parametrize(
    "config", [{key: ALL[key]} for key in ("label_smoothing", "r_drop", "vat")] + [ALL]
)
def test_uneven_micro_batches_give_the_gradient_of_one_big_batch(kind: str, config: Any) -> None:
    task, head = task_of(kind, dropout=0.0)
    whole = gradients(task, head, [[0, 1, 2, 3, 4]], config)
    split = gradients(task, head, [[3], [4, 0, 2], [1]], config)
    plain = gradients(task, head, [[0, 1, 2, 3, 4]], {})
    for one, other in zip(whole, split, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    if "r_drop" not in config or len(config) > 1:  # without dropout both passes are the same
        assert any(not torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, plain, strict=True))


def test_directions_that_depend_on_batch_mates_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, head = task_of("example", dropout=0.0)

    def by_row(features: Tensor, lengths: Tensor, seeds: Any) -> Tensor:
        return regularise._unit(torch.randn_like(features))

    monkeypatch.setattr(regularise, "_directions", by_row)
    whole = gradients(task, head, [[0, 1, 2, 3, 4]], {"vat": 1.0})
    split = gradients(task, head, [[3], [4, 0, 2], [1]], {"vat": 1.0})
    assert any(not torch.allclose(a, b, atol=1e-8) for a, b in zip(whole, split, strict=True))


@pytest.mark.parametrize("kind", ["example", "asr"])
@pytest.mark.parametrize("config", [{}, {"vat_epsilon": 2.0, "vat_iterations": 3}])
def test_with_all_off_the_loss_is_the_tasks_own(kind: str, config: dict[str, Any]) -> None:
    task, head = task_of(kind, dropout=0.2)
    calls: list[LossTerms] = []
    own = task.loss

    def counted(*arguments: Any) -> LossTerms:
        calls.append(own(*arguments))
        return calls[-1]

    task.loss = counted  # type: ignore[method-assign]
    terms = terms_of(task, head, [0, 1, 2], config)
    assert [terms] == calls  # the very object: no pass and no operation more
    assert terms is calls[0]


def test_label_smoothing_of_cross_entropy_is_torchs() -> None:
    task, head = task_of("example", dropout=0.0)
    features, lengths, batch = batch_of(task, [0, 1, 2, 3, 4])
    smoothed = terms_of(task, head, [0, 1, 2, 3, 4], {"label_smoothing": 0.1})
    expected = F.cross_entropy(
        head(features, lengths), batch.targets["labels"], reduction="sum", label_smoothing=0.1
    )
    torch.testing.assert_close(smoothed.sum, expected, rtol=0, atol=1e-12)


def test_label_smoothing_of_ctc_is_the_divergence_from_uniform_over_valid_frames() -> None:
    task, head = task_of("asr", dropout=0.0)
    head.eval()
    features, lengths, batch = batch_of(task, [0, 1, 2])
    plain = task.loss(head, features, lengths, batch)
    assert plain.outputs is not None
    torch.testing.assert_close(plain.outputs.weights.sum(), plain.weight)
    smoothed = label_smoothing(plain, plain.outputs, 0.2)
    logits, frames = head(features, lengths)
    expected = torch.tensor(0.0, dtype=torch.float64)
    for row, count in enumerate(frames.tolist()):
        log_p = logits[row, :count].log_softmax(-1)
        classes = log_p.shape[-1]
        uniform = torch.full_like(log_p, 1 / classes)
        kl = F.kl_div(log_p, uniform, reduction="sum") / count
        expected = expected + kl + torch.log(torch.tensor(float(classes), dtype=torch.float64))
    torch.testing.assert_close(smoothed.sum, 0.8 * plain.sum + 0.2 * expected)


def outputs(*logits: list[float], weights: list[float]) -> Outputs:
    return Outputs(torch.tensor(logits, dtype=torch.float64), torch.tensor(weights))


def of(logits: Tensor) -> Outputs:
    """Of utterances that count 1 each."""
    return Outputs(logits, torch.ones(len(logits)))


def slots() -> tuple[Task, nn.Module, list[int]]:
    """Intent classification, which gives three distributions for each utterance."""
    info = discover(Path("/nowhere"))["ic"]
    task = info.task_class()(info.config_model()(), DataConfig())
    names = {"action": "ab", "object": "abcd", "location": "abc"}
    task.recall({"classes": {slot: dict.fromkeys(of, 1) for slot, of in names.items()}})
    torch.manual_seed(0)
    return task, task.build_head(DIM, 160), [2, 4, 3]


def of_slots(task: Task, rows: list[int]) -> tuple[Tensor, Tensor, Batch]:
    features, lengths, batch = batch_of(task_of("example", 0.0)[0], rows)
    labels = torch.tensor([[row % 2, row % 4, row % 3] for row in rows])
    return features.float(), lengths, replace(batch, targets={"labels": labels})


def test_of_labels_with_slots_each_term_is_the_sum_over_them() -> None:
    task, head, sizes = slots()
    features, lengths, batch = of_slots(task, [0, 1, 2])
    plain = task.loss(head, features, lengths, batch)
    assert plain.outputs is not None and plain.outputs.sizes == tuple(sizes)
    torch.testing.assert_close(plain.outputs.weights.sum(), plain.weight)
    parts = head(features, lengths).split(sizes, dim=1)
    labels = batch.targets["labels"]
    torch.testing.assert_close(
        label_smoothing(plain, plain.outputs, 0.1).sum,
        torch.stack(
            [
                F.cross_entropy(part, labels[:, slot], reduction="sum", label_smoothing=0.1)
                for slot, part in enumerate(parts)
            ]
        ).sum(),
    )
    other = replace(plain.outputs, logits=torch.randn(3, sum(sizes)))
    torch.testing.assert_close(
        divergence(plain.outputs, other),
        torch.stack(
            [
                divergence(of(part), of(another))
                for part, another in zip(parts, other.logits.split(sizes, dim=1), strict=True)
            ]
        ).sum(),
    )


def test_slots_of_uneven_micro_batches_give_the_gradient_of_one_big_batch() -> None:
    task, head, _ = slots()
    found = []
    for parts in ([[0, 1, 2, 3, 4]], [[3], [4, 0, 2], [1]]):
        head.zero_grad()
        for rows in parts:
            features, lengths, batch = of_slots(task, rows)
            terms = regularised(
                RegulariseConfig.model_validate(ALL),
                *(task, head, features, lengths, batch),
                lambda given=(features, lengths): given,
            )
            assert float(terms.scalars["vat"]) > 0
            terms.sum.backward()
        found.append([parameter.grad.clone() for parameter in head.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_r_drop_by_hand() -> None:
    one = outputs([0.0, 1.0, 2.0], [1.0, 1.0, 0.0], weights=[0.5, 2.0])
    two = outputs([0.5, 0.5, 0.0], [3.0, 0.0, 0.0], weights=[0.5, 2.0])
    first = LossTerms(torch.tensor(3.0), torch.tensor(2.5), {"right": torch.tensor(1.0)})
    second = LossTerms(torch.tensor(5.0), torch.tensor(2.5), {"right": torch.tensor(2.0)})
    p, q = one.logits.log_softmax(-1), two.logits.log_softmax(-1)
    per_row = F.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    per_row = per_row + F.kl_div(p, q, reduction="none", log_target=True).sum(-1)
    both = (torch.tensor([0.5, 2.0]) * per_row).sum()
    terms = r_drop(first, one, second, two, 3.0)
    torch.testing.assert_close(terms.sum, 4.0 + 3.0 / 2 * both)
    torch.testing.assert_close(terms.scalars["r_drop"], both / 2)
    assert terms.scalars["right"] == 1.5
    assert terms.weight == 2.5


def test_r_drops_passes_have_other_masks_and_the_same_augmentation() -> None:
    task, head = task_of("asr", dropout=0.5)
    config = task.config.spec_augment.model_copy(update={"feature_masks": 1, "time_masks": 1})
    task.config = task.config.model_copy(update={"spec_augment": config})
    seen: list[Outputs] = []
    own = task.loss

    def watched(*arguments: Any) -> LossTerms:
        terms = own(*arguments)
        assert terms.outputs is not None
        seen.append(terms.outputs)
        return terms

    task.loss = watched  # type: ignore[method-assign]
    assert terms_of(task, head, [0, 2], {"r_drop": 1.0}).scalars["r_drop"] > 0
    assert len(seen) == 2
    assert not torch.equal(seen[0].logits, seen[1].logits)
    for module in head.modules():  # what is left is augmentation, were it random
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert terms_of(task, head, [0, 2], {"r_drop": 1.0}).scalars["r_drop"] == 0


class Linear(nn.Module):
    """Logits of an utterance: a linear map of the sum of its valid frames."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        draw = torch.randn(DIM, classes, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(draw / 10)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_mask(lengths, features.shape[1])[:, :, None]
        return features.masked_fill(~valid, 0.0).sum(1) @ self.weight


@pytest.fixture
def linear() -> Iterator[tuple[Any, nn.Module]]:
    task, _ = task_of("example", dropout=0.0)
    return task, Linear()


def perturbations(task: Any, head: nn.Module, rows: list[int], config: Any) -> list[Tensor]:
    """What VAT added to the features in each of its passes, the last one being the worst."""
    features, _, _ = batch_of(task, rows)
    seen: list[Tensor] = []
    own = task.loss

    def watched(head: Any, given: Tensor, *rest: Any) -> LossTerms:
        seen.append(given.detach() - features)
        return own(head, given, *rest)

    task.loss = watched
    terms_of(task, head, rows, config)
    return seen[1:]


def test_vats_perturbation_is_the_worst_of_its_size(linear: Any) -> None:
    """For logits linear in the features the worst direction is an eigenvector of W G W'."""
    task, head = linear
    config = {"vat": 1.0, "vat_epsilon": 1e-3, "vat_iterations": 40}
    found = perturbations(task, head, [0], config)[-1][0]
    features, lengths, _ = batch_of(task, [0])
    p = head(features, lengths).softmax(-1)[0].detach()
    curvature = head.weight @ (torch.diag(p) - p[:, None] * p) @ head.weight.T
    worst = torch.linalg.eigh(curvature)[1][:, -1].detach()
    shape = worst.expand(LENGTHS[0], DIM) / LENGTHS[0] ** 0.5  # the same in each frame
    cosine = (found * shape).sum() / found.norm()
    assert abs(float(cosine)) > 0.99


def test_vats_perturbation_has_its_norm_and_leaves_padding_alone() -> None:
    task, head = task_of("asr", dropout=0.0)
    config = {"vat": 1.0, "vat_epsilon": 0.3, "vat_iterations": 2}
    passes = perturbations(task, head, [1, 0, 4], config)
    assert len(passes) == 3
    features, lengths, _ = batch_of(task, [1, 0, 4])
    for given, size in zip(passes, (regularise.PROBE, regularise.PROBE, 0.3), strict=True):
        torch.testing.assert_close(
            given.norm(dim=(1, 2)), size * features.norm(dim=(1, 2)), rtol=1e-9, atol=0
        )
        assert not given[~valid_mask(lengths, given.shape[1])].any()


class Heedless(Linear):
    """Sums up padded frames too, as no head should."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return features.sum(1) @ self.weight


def test_even_under_a_head_that_looks_at_padding_vat_leaves_it_alone() -> None:
    task, _ = task_of("example", dropout=0.0)
    _, lengths, _ = batch_of(task, [1, 0])
    for given in perturbations(task, Heedless(), [1, 0], {"vat": 1.0}):
        assert not given[~valid_mask(lengths, given.shape[1])].any()


def test_vats_clean_distribution_is_a_constant(linear: Any) -> None:
    """It is the perturbed one that moves towards the clean one, not both towards each other."""
    task, head = linear
    rows = [0, 1, 2]
    features, lengths, _ = batch_of(task, rows)
    plain = gradients(task, head, [rows], {})[0]
    whole = gradients(task, head, [rows], {"vat": 1.0})[0]
    worst = perturbations(task, head, rows, {"vat": 1.0})[-1]
    clean = head(features, lengths).detach()
    term = divergence(of(clean), of(head(features + worst, lengths)))
    (expected,) = torch.autograd.grad(term, [head.weight])
    torch.testing.assert_close(whole - plain, expected / 3, rtol=0, atol=1e-12)


def test_more_iterations_find_worse_perturbations_than_a_random_one(linear: Any) -> None:
    task, head = linear
    sums = [
        float(terms_of(task, head, [0, 1, 2], {"vat": 1.0, "vat_iterations": n}).scalars["vat"])
        for n in (1, 8)
    ]
    features, lengths, batch = batch_of(task, [0, 1, 2])
    noise = regularise._directions(features, lengths, batch.seeds)
    noise = noise * features.norm(dim=(1, 2), keepdim=True)
    random = divergence(of(head(features, lengths)), of(head(features + noise, lengths)))
    assert float(random.detach()) < sums[0] <= sums[1] * (1 + 1e-6)


def test_padding_changes_nothing() -> None:
    task, head = task_of("example", dropout=0.0)
    clean, dirty = (terms_of(task, head, [0, 1], ALL, padding=p).sum for p in (0.0, 50.0))
    torch.testing.assert_close(clean, dirty, rtol=0, atol=1e-12)


def test_vats_passes_share_their_dropout_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    task, head = task_of("example", dropout=0.5)
    config = {"vat": 1.0, "vat_epsilon": 1e-9}
    assert abs(float(terms_of(task, head, [0, 1, 2], config).scalars["vat"])) < 1e-12
    monkeypatch.setattr(regularise._Randomness, "restore", lambda self: None)
    assert float(terms_of(task, head, [0, 1, 2], config).scalars["vat"]) > 1e-6


class Normed(Linear):
    """With a batch norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3).double()

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.norm(super().forward(features, lengths))
        return logits


def test_vat_leaves_batch_norms_statistics_alone() -> None:
    task, _ = task_of("example", dropout=0.0)
    heads = Normed(), Normed(), Normed()
    for head, config in zip(heads, ({}, {"vat": 1.0}, {"r_drop": 1.0}), strict=True):
        terms_of(task, head, [0, 1, 2], config)
    plain, with_vat, with_r_drop = (head.state_dict() for head in heads)
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        assert torch.equal(plain[name], with_vat[name])
    assert plain["norm.num_batches_tracked"] == 1
    assert with_r_drop["norm.num_batches_tracked"] == 2  # a second training pass in every respect


def test_features_get_vats_gradient_too() -> None:
    task, head = task_of("example", dropout=0.0)
    _, lengths, batch = batch_of(task, [0, 1])
    got = []
    for weight in (0.0, 1.0):
        features = batch_of(task, [0, 1])[0].requires_grad_()
        config = RegulariseConfig(vat=weight, label_smoothing=0.1)
        second = lambda features=features: (features, lengths)  # noqa: E731
        regularised(config, task, head, features, lengths, batch, second).sum.backward()
        got.append(features.grad)
    assert got[0] is not None and got[1] is not None
    assert not torch.allclose(got[0], got[1], atol=1e-9)


@pytest.mark.parametrize("kind", ["example", "asr"])
def test_under_bf16_autocast_terms_are_finite_float32_and_close(kind: str) -> None:
    task, head = task_of(kind, dropout=0.0)
    head.float()
    features, lengths, batch = batch_of(task, [0, 1, 2])
    features = features.float()
    sums = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            config = RegulariseConfig.model_validate(ALL)
            terms = regularised(
                config, task, head, features, lengths, batch, lambda: (features, lengths)
            )
        assert terms.sum.dtype == torch.float32
        sums.append(torch.stack([terms.sum, 10 * terms.scalars["vat"]]).detach())
    torch.testing.assert_close(sums[0], sums[1], rtol=0.1, atol=0.0)


@pytest.mark.parametrize("key", ["label_smoothing", "r_drop", "vat"])
def test_a_task_without_outputs_is_named(key: str) -> None:
    task, head = task_of("example", dropout=0.0)
    own = task.loss

    def mute(*arguments: Any) -> LossTerms:
        terms = own(*arguments)
        return LossTerms(terms.sum, terms.weight, terms.scalars)

    task.loss = mute  # type: ignore[method-assign]
    assert terms_of(task, head, [0], {}).weight == 1
    with pytest.raises(UsageError, match=rf"task 'example'.*regularise\.{key} needs"):
        terms_of(task, head, [0], {key: 0.5})
