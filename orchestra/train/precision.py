"""Number formats and determinism of a rank."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from orchestra.config.schema import TrainConfig

FIRST_SCALE = 2.0**10
"""Of an fp16 loss. torch begins with 2**16, made for means: losses here are sums over many units,
and each halving costs a step."""
LOWEST_SCALE = 2.0**-10
"""Below 1, since the gradient of a sum over a hundred thousand frames may not fit into fp16."""


def autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """The context of forward passes: half precision where that is safe; weights stay float32."""
    if config.precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def loss_scaler(config: TrainConfig, device: torch.device) -> torch.amp.GradScaler:
    """Keeps small fp16 gradients from becoming 0; does nothing in other precisions.

    Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740.
    """
    fp16 = config.precision == "fp16"
    return torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE, enabled=fp16)


def set_determinism(config: TrainConfig) -> None:
    """Switch deterministic kernels on; call before CUDA and NCCL start.

    On the CPU every operation is deterministic for a given number of threads.
    """
    if not config.deterministic:
        return
    # cuBLAS reads its variable at the first handle, NCCL at the first communicator. NVLS
    # all-reduce may sum in another order from call to call.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ["NCCL_NVLS_ENABLE"] = "0"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
