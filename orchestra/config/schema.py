"""The typed config of a run: pydantic v2, strict, unknown keys forbidden.

Both planes import this module, `frozen`, `problems` and `validation`, and no other one of this
package: the frozen config is validated again by the code that runs, so a snapshot never trusts
another version's reading. Imports pydantic only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, SerializeAsAny

NonNegativeFloat = Annotated[float, Field(ge=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]


class Table(BaseModel):
    """One TOML table. Task configs derive from `TaskConfig` below."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class TaskConfig(Table):
    """Base of every task's `config.py: Config`. `kind` is the task's folder name."""

    kind: str


class FbankConfig(Table):
    """Log mel filter banks, as Kaldi computes them."""

    kind: Literal["fbank"] = "fbank"
    name: str = "fbank"
    mels: PositiveInt = 80
    deltas: Annotated[int, Field(ge=0, le=2)] = 2
    """Orders of deltas appended: 2 gives 240 dimensions from 80 mels."""
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class HuggingFaceConfig(Table):
    """A wav2vec2, HuBERT or WavLM model as transformers loads it."""

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """What the user called it."""
    source: str
    """Hub id, or the absolute path of a folder written by save_pretrained."""
    revision: str | None = None
    key: str = "hidden_states"
    """Which of the model's outputs is used: "hidden_states" or "last_hidden_state"."""
    layers: int | None = None
    """One layer (Python indexing, -1 is the last) instead of the learnt sum of all."""
    normalize: bool = False
    """Layer norm without parameters on each layer before the sum (S3PRL's feature_normalize)."""
    trainable: bool = False
    lr: PositiveFloat | None = None
    """Learning rate of the upstream when trainable; default: optim.lr."""


UpstreamConfig = Annotated[FbankConfig | HuggingFaceConfig, Field(discriminator="kind")]


class DataConfig(Table):
    """Where the manifests are and which splits are used."""

    root: Path | None = None
    """The corpus."""
    manifests: Path | None = None
    """Folder of <split>.jsonl files, as `orchestra data prepare` writes them."""
    prepare: str | None = None
    """The command that makes them, told where they are missing; `{root}`, `{manifests}` filled."""
    train: str = "train"
    valid: str = "dev"
    test: list[str] = ["test"]
    """Splits evaluated at the end of the run with the best checkpoint."""
    workers: NonNegativeInt = 2
    """Loader processes per rank; 0 reads in the training process."""


class BatchConfig(Table):
    """The global batch, whatever the number of ranks."""

    seconds: PositiveFloat
    """Audio (padding included) in one optimizer step, over all ranks."""
    max_micro_seconds: PositiveFloat
    """Audio (padding included) in one forward pass: what fits into memory."""
    micro_batches: PositiveInt | None = None
    """V: micro-batches of a step, frozen at the first start; any divisor of V may resume."""
    eval_seconds: PositiveFloat | None = None
    """Audio in one evaluation batch; default: max_micro_seconds."""


class OptimConfig(Table):
    """The optimizer."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: PositiveFloat
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    momentum: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: NonNegativeFloat = 1.0
    """Global gradient norm over all groups; 0 switches clipping off."""


class ScheduleConfig(Table):
    """Learning-rate factor as a closed form of the step."""

    kind: Literal["linear", "cosine", "constant"] = "constant"
    warmup_steps: NonNegativeInt = 0
    final_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Factor at the last step (linear, cosine)."""


class TrainConfig(Table):
    """The loop."""

    max_steps: PositiveInt
    eval_every: PositiveInt
    """Validation on data.valid every so many steps, and after the last."""
    log_every: PositiveInt = 20
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast."""
    deterministic: bool = False
    """GPU only: deterministic kernels; CPU runs always are."""


class CheckpointConfig(Table):
    """When to save, what to keep."""

    every: PositiveInt
    keep_last: Annotated[int, Field(ge=2)] = 2
    keep_best: PositiveInt = 1
    metric: str | None = None
    """Validation metric that names the best; default: the task's first metric."""


class LaunchConfig(Table):
    """Processes, devices, restarts."""

    device: Literal["cpu", "gpu"] = "cpu"
    gpu_ids: list[str] = []
    """Wanted GPUs by index or UUID; empty: any free ones."""
    nproc: PositiveInt = 1
    """Ranks; on GPUs one per device."""
    threads: PositiveInt = 1
    """Intra-op threads of a rank; part of exactness on CPU, hence frozen."""
    max_restarts: NonNegativeInt = 3
    """Restarts since the last checkpoint progress after which the run fails."""
    backoff_s: NonNegativeFloat = 1.0
    """Wait before the first restart; doubles each time without progress, up to 60 s."""
    grace_s: NonNegativeFloat = 30.0
    """Time to save and end after `stop` before ranks are killed."""


class RunConfig(Table):
    """One frozen config. `task` is validated by the task's own model (orchestra.tasks)."""

    version: Literal[1] = 1
    seed: NonNegativeInt
    task: SerializeAsAny[TaskConfig]
    upstream: UpstreamConfig
    data: DataConfig = DataConfig()
    batch: BatchConfig
    optim: OptimConfig
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig
    checkpoint: CheckpointConfig
    launch: LaunchConfig = LaunchConfig()


def run_config_model(task_config: type[TaskConfig]) -> type[RunConfig]:
    """`RunConfig` with its `task` table typed by one task."""
    annotations: dict[str, Any] = {"task": task_config}
    return type("RunConfig", (RunConfig,), {"__annotations__": annotations, "__module__": __name__})


def micro_batches(seconds: float, max_micro_seconds: float, world_size: int) -> int:
    """V: the smallest multiple of the first world size >= ceil(seconds / max_micro_seconds)."""
    needed = -int(-seconds // max_micro_seconds)
    return -(-needed // world_size) * world_size


def unfit_ranks(v: int, world_size: int) -> str | None:
    """Why that many ranks can't share V micro-batches; None if each gets as many as the others."""
    if v % world_size == 0:
        return None
    fitting = ", ".join(str(ranks) for ranks in range(1, v + 1) if v % ranks == 0)
    return (
        f"{world_size} ranks can't share {v} micro-batches (batch.micro_batches); "
        f"{fitting} can (--nproc)"
    )
