"""Rules on the loss: sums that are exact for uneven batches and know nothing of neighbours."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from orchestra.check import handed
from orchestra.check.compare import close
from orchestra.check.mistakes import Violation
from orchestra.check.subject import Built, Subject, numbers, soiled
from orchestra.tasks import Batch, LossTerms
from orchestra.train.seeds import reseed


def loss_is_a_sum_with_a_weight(subject: Subject) -> str:
    """`loss` gives scalars: a finite sum, a weight above 0; and every parameter learns from it."""
    built = subject.build()
    batch = subject.batch(subject.few)
    terms = built.loss(batch)
    loss, weight = float(terms.sum.detach()), float(terms.weight.detach())
    if not math.isfinite(loss):
        raise Violation(f"loss: the sum is {loss}")
    if not 0 < weight < math.inf:
        raise Violation(f"loss: the weight is {weight:g}; it must be above 0")
    if terms.outputs is not None:
        total = float(terms.outputs.weights.sum())
        if not close(total, weight):
            raise Violation(f"loss: the weights of `outputs` sum up to {total:g}, not {weight:g}")
    if not terms.sum.requires_grad:
        raise Violation("loss: nothing is learnt from the sum: it was detached, or made anew")
    terms.sum.backward()  # type: ignore[no-untyped-call]
    idle = [n for n, p in built.model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise Violation(
            f"loss: {len(idle)} parameters get no gradient ({', '.join(idle[:3])}): use them, or "
            "set requires_grad to False"
        )
    learning = [(n, p.grad) for n, p in built.model.named_parameters() if p.grad is not None]
    wild = [name for name, gradient in learning if not bool(gradient.isfinite().all())]
    if wild:
        raise Violation(
            f"loss: the gradient of {wild[0]} is not finite, although the loss is {loss:.4g}: look "
            "for a root, a logarithm or a division at 0"
        )
    return f"{loss / weight:.4g} per unit"


def loss_adds_up(subject: Subject) -> str:
    """The loss of a batch is the sum of the losses of its utterances: no mean, no neighbours."""
    built = subject.build()
    built.model.eval()
    together = numbers(built.loss(subject.batch(subject.few)))
    alone = [numbers(built.loss(single)) for single in subject.singles(subject.few)]
    for utterance, terms in zip(subject.few, alone, strict=True):
        if not terms["weight"] > 0:
            raise Violation(
                f"loss: the weight of {utterance.id} alone is {terms['weight']:g}; it must be "
                "above 0 in every batch: refuse in `target` what can't be learnt from"
            )
    for name, value in together.items():
        missing = [number for number, terms in enumerate(alone) if name not in terms]
        if missing:
            raise Violation(f"loss: scalar {name!r} is missing in some batches; give it in all")
        total = math.fsum(terms[name] for terms in alone)
        if not close(value, total):
            raise Violation(
                f"loss: {name} of {len(alone)} utterances is {value:.6g} in one batch and "
                f"{total:.6g} one by one: give sums, not means, and count neither neighbours nor "
                "padding"
            )
    return f"{len(alone)} utterances, one by one and together"


def loss_ignores_padding(subject: Subject) -> str:
    """Whatever stands behind an utterance's length changes nothing."""
    built = subject.build()
    built.model.eval()
    batch = subject.batch(subject.few)
    features, lengths = built.features(batch)
    # Labels of frames are padded like the features: frames are added only where none is padding.
    more = 0 if bool((lengths < features.shape[1]).any()) else 2
    clean = numbers(_loss(built, features, lengths, batch))
    dirty = numbers(_loss(built, soiled(features, lengths, more=more), lengths, batch))
    for name, value in clean.items():
        if not close(value, dirty[name]):
            raise Violation(
                f"loss: {name} is {value:.6g}, and {dirty[name]:.6g} with other padding: mask it "
                "by the lengths (orchestra.upstreams.base.valid_mask)"
            )
    return "garbage behind the lengths changes nothing"


def loss_draws_from_its_seeds(subject: Subject) -> str:
    """Randomness in training follows from batch.seeds and the global generators, nothing else."""
    built = subject.build()
    batch = subject.batch(subject.few)
    first = numbers(built.loss(batch))
    built.loss(replace(batch, seeds=[seed + 1 for seed in batch.seeds]))
    again = numbers(built.loss(batch))
    afresh = numbers(subject.build().loss(subject.batch(subject.few)))
    for other, when in ((again, "after another batch"), (afresh, "in another model")):
        if other != first:
            raise Violation(
                f"loss in training is {first['sum']:.6g}, and {other['sum']:.6g} {when} with the "
                "same seeds: draw from batch.seeds (or torch's global generator), and keep no "
                "state between batches"
            )
    return "the same after other batches, and in another model"


def _loss(built: Built, features: torch.Tensor, lengths: torch.Tensor, batch: Batch) -> LossTerms:
    reseed(0, "check")
    with torch.no_grad():
        return handed.terms(built.task.loss(built.model.head, features, lengths, batch))
