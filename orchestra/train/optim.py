"""The optimizer: parameter groups, and its state by parameter name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from orchestra.config.schema import LayeredConfig, RunConfig
from orchestra.wire.errors import UsageError


def build_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The configured optimizer over all parameters that require a gradient now.

    Make it before `Freezing.apply`, so that what is frozen for a while is in it: it gets no state
    until it is trained.

    adamw and adafactor take the decay from the weights (Loshchilov and Hutter 2019,
    arXiv:1711.05101), adam and sgd add it to the gradient. betas and eps are those of adam and
    adamw, momentum is that of sgd. adafactor (Shazeer and Stern 2018, arXiv:1804.04235) moves a
    tensor by min(lr, 1 / sqrt(t)) of its root mean square: lr is a relative step, 0.01 in the
    paper, and the schedule scales that bound. Fused kernels only on GPUs.
    """
    groups = parameter_groups(config, model)
    optim = config.optim
    if optim.kind == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum)
    if optim.kind == "adafactor":
        return torch.optim.Adafactor(groups, lr=optim.lr)
    kind = torch.optim.AdamW if optim.kind == "adamw" else torch.optim.Adam
    on_gpu = next(model.parameters()).is_cuda
    return kind(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=on_gpu or None)


def parameter_groups(config: RunConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Non-empty groups of (upstream or not) x (decayed or not), each with its own `base_lr`.

    Decayed is what has two dimensions or more, embeddings too; not decayed are biases, the scales
    of norms and other vectors.
    """
    upstream_lr = config.optim.lr
    if isinstance(config.upstream, LayeredConfig) and config.upstream.lr is not None:
        upstream_lr = config.upstream.lr
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        of_upstream, decayed = name.startswith("upstream."), parameter.ndim > 1
        lr = upstream_lr if of_upstream else config.optim.lr
        group = groups.setdefault(
            (of_upstream, decayed),
            {
                "params": [],
                "lr": lr,
                "base_lr": lr,
                "weight_decay": config.optim.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as `<parameter name>/<key>` tensors: it holds nothing else."""
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # SGD keeps momentum_buffer = None where there is no momentum
                state[f"{name}/{key}"] = value
    return state


def load_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Restore what `optimizer_tensors` gave; rates come from the config, not from the state.

    Raises:
        UsageError: it holds the state of parameters that this optimizer does not train.
    """
    by_name: dict[str, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        name, key = path.rsplit("/", 1)
        by_name.setdefault(name, {})[key] = tensor
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    names = [name_of[parameter] for parameter in _in_order(optimizer)]
    if unknown := sorted(by_name.keys() - set(names)):
        raise UsageError(
            f"the checkpoint's optimizer trained what this one does not: {', '.join(unknown)}; "
            "resume with the optim.freeze it was made with"
        )
    document = optimizer.state_dict()
    document["state"] = {n: by_name[name] for n, name in enumerate(names) if name in by_name}
    optimizer.load_state_dict(document)


def _in_order(optimizer: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
