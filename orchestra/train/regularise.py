"""Loss terms that any task can have which gives its outputs: label smoothing, R-Drop, VAT.

Composes passes through the head; knows nothing of optimizers, ranks or files. Each term is a sum
over the batch's distributions with their weights, so that uneven batches stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from orchestra.config.schema import RegulariseConfig
from orchestra.data.keyed import keyed
from orchestra.tasks import Batch, LossTerms, Outputs, Task
from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import UsageError

PROBE = 1e-2
"""Norm of the step that looks for VAT's direction, relative to that of the features. Miyato et al.
take 1e-6, which drowns in the rounding of TF32."""

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def regularised(
    config: RegulariseConfig,
    task: Task,
    head: nn.Module,
    features: Tensor,
    lengths: Tensor,
    batch: Batch,
    second: Callable[[], tuple[Tensor, Tensor]],
) -> LossTerms:
    """The task's training loss with the terms that `config` switches on; with none, that alone.

    Args:
        features: (batch, frames, dim).
        lengths: (batch,) valid frames.
        second: gives features and lengths again, with other dropout masks; for R-Drop.

    Raises:
        UsageError: a term is switched on, and the task gives no outputs.
    """
    if not (config.label_smoothing or config.r_drop or config.vat):
        return task.loss(head, features, lengths, batch)

    def forward(features: Tensor, lengths: Tensor) -> tuple[LossTerms, Outputs]:
        terms = task.loss(head, features, lengths, batch)
        return terms, _require_outputs(config, task, terms)

    randomness = _Randomness.now(features.device)
    terms, outputs = forward(features, lengths)
    terms = label_smoothing(terms, outputs, config.label_smoothing)
    if config.r_drop:
        again, other = forward(*second())
        again = label_smoothing(again, other, config.label_smoothing)
        terms = r_drop(terms, outputs, again, other, config.r_drop)
    if config.vat:

        def outputs_of(features: Tensor) -> Outputs:
            randomness.restore()
            with _untouched_statistics(head):
                return forward(features, lengths)[1]

        changed = vat(config, outputs_of, outputs, features, lengths, batch.seeds)
        terms = _plus(terms, "vat", changed, config.vat)
    return terms


def label_smoothing(terms: LossTerms, outputs: Outputs, share: float) -> LossTerms:
    """(1 - share) * loss + share * sum of weight * mean over classes of -log p.

    For cross entropy that is the loss of targets mixed with the uniform distribution (Szegedy et
    al. 2016); for CTC it adds the divergence from it at every frame (Kim et al. 2018, "Improved
    training for online end-to-end speech recognition systems"), but for a constant.
    """
    if not share:
        return terms
    surprise = -_summed([log_p.mean(-1) for log_p in _log_probabilities(outputs)])
    uniform = (outputs.weights * surprise).sum().to(terms.sum.device)
    return replace(terms, sum=(1 - share) * terms.sum + share * uniform)


def r_drop(
    first: LossTerms,
    outputs: Outputs,
    second: LossTerms,
    other: Outputs,
    weight: float,
) -> LossTerms:
    """The mean of two passes' losses + weight / 2 * (KL(p1 || p2) + KL(p2 || p1)).

    Liang et al. 2021 add the losses up instead: their alpha is twice this weight.
    """
    mean = replace(
        first,
        sum=(first.sum + second.sum) / 2,
        scalars={name: (first.scalars[name] + second.scalars[name]) / 2 for name in first.scalars},
    )
    both = divergence(outputs, other) + divergence(other, outputs)
    return _plus(mean, "r_drop", both / 2, weight)


def vat(
    config: RegulariseConfig,
    outputs_of: Callable[[Tensor], Outputs],
    outputs: Outputs,
    features: Tensor,
    lengths: Tensor,
    seeds: Sequence[int],
) -> Tensor:
    """Sum of weight * KL(p(x) || p(x + r)); p(x) is a constant (Miyato et al. 2018, VAT).

    r is the perturbation of an utterance's valid frames of norm vat_epsilon times theirs that
    changes its outputs most, as far as the power iterations find it. They start from a direction
    keyed by the utterance, so that its batch mates don't matter.

    Args:
        outputs_of: outputs at other features, with the same dropout masks. Only their first
            derivative is taken, which is all that cuDNN's recurrent layers have.
        outputs: at `features`.
        seeds: one per utterance.
    """
    clean = _constant(outputs)
    valid = valid_mask(lengths, features.shape[1]).unsqueeze(2)
    place = _wide(features.detach()).masked_fill(~valid, 0.0)
    norm = torch.linalg.vector_norm(place, dim=(1, 2), keepdim=True)
    direction = _directions(place, lengths, seeds)
    # What a small step changes is below the resolution of half precision.
    rounded = torch.is_autocast_enabled(features.device.type)
    with torch.autocast(features.device.type, enabled=False):
        reference = _constant(outputs_of(place)) if rounded else clean
        for _ in range(config.vat_iterations):
            step = (PROBE * norm * direction).requires_grad_()
            change = divergence(reference, outputs_of(place + step))
            (gradient,) = torch.autograd.grad(change, step)
            direction = _unit(gradient.masked_fill(~valid, 0.0))
    return divergence(clean, outputs_of(features + config.vat_epsilon * norm * direction))


def divergence(p: Outputs, q: Outputs) -> Tensor:
    """Scalar: sum of weight * KL(p || q) over distributions; p's weights count."""
    pairs = zip(_log_probabilities(p), _log_probabilities(q), strict=True)
    each = _summed([(log_p.exp() * (log_p - log_q)).sum(-1) for log_p, log_q in pairs])
    return (p.weights * each).sum()


def _log_probabilities(outputs: Outputs) -> list[Tensor]:
    """(..., classes) of each of the distributions that stand side by side."""
    logits = _wide(outputs.logits)
    parts = torch.split(logits, list(outputs.sizes) or logits.shape[-1], dim=-1)
    return [log_softmax(part, dim=-1) for part in parts]


def _summed(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


def _constant(outputs: Outputs) -> Outputs:
    """Without a gradient."""
    return replace(outputs, logits=outputs.logits.detach())


@dataclass(frozen=True)
class _Randomness:
    """States of torch's generators, from which dropout draws."""

    device: torch.device
    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> _Randomness:
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), cuda)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


@contextmanager
def _untouched_statistics(head: nn.Module) -> Iterator[None]:
    """Batch norms go on as they are, but don't take what they see into their averages."""
    tracking = [m for m in head.modules() if isinstance(m, _BATCH_NORMS) and m.track_running_stats]
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


def _require_outputs(config: RegulariseConfig, task: Task, terms: LossTerms) -> Outputs:
    if terms.outputs is not None:
        return terms.outputs
    terms_on = ("label_smoothing", "r_drop", "vat")
    keys = ", ".join(f"regularise.{name}" for name in terms_on if getattr(config, name))
    raise UsageError(
        f"task {task.config.kind!r} doesn't give its outputs, which {keys} needs: "
        "set it to 0, or let the task's loss return them (LossTerms.outputs)"
    )


def _plus(terms: LossTerms, name: str, divergence: Tensor, weight: float) -> LossTerms:
    """The loss and one more sum, which is logged too."""
    divergence = divergence.to(terms.sum.device)
    scalars = {**terms.scalars, name: divergence.detach()}
    return replace(terms, sum=terms.sum + weight * divergence, scalars=scalars)


def _directions(features: Tensor, lengths: Tensor, seeds: Sequence[int]) -> Tensor:
    """Random unit vectors of the valid frames, one per utterance; 0 at padding."""
    generator = torch.Generator(features.device)
    directions = torch.zeros_like(features)
    for row, (seed, length) in enumerate(zip(seeds, lengths.tolist(), strict=True)):
        generator.manual_seed(keyed(seed, "vat"))
        directions[row, :length].normal_(generator=generator)
    return _unit(directions)


def _unit(vectors: Tensor) -> Tensor:
    """Each row's (frames, dim) divided by its norm; 0 stays 0."""
    tiny = torch.finfo(vectors.dtype).tiny
    # By the largest first: the squares of a small gradient would vanish.
    vectors = vectors / vectors.abs().amax((1, 2), keepdim=True).clamp(min=tiny)
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=(1, 2), keepdim=True)
    return vectors / norms.clamp(min=tiny)


def _wide(tensor: Tensor) -> Tensor:
    """At least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
