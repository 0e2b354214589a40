"""The typed config of a run: pydantic v2, strict, unknown keys forbidden.

Both planes import this module (and through it its parts `table`, `upstream_schema` and
`audio_schema`), `frozen`, `problems` and `validation`, and no other one of this package: the frozen
config is validated again by the code that runs, so a snapshot never trusts another version's
reading. Imports pydantic only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, SerializeAsAny, model_validator
from pydantic_core import PydanticCustomError

from orchestra.config.audio_schema import AugmentConfig as AugmentConfig
from orchestra.config.audio_schema import CacheConfig as CacheConfig
from orchestra.config.audio_schema import DataConfig as DataConfig
from orchestra.config.audio_schema import NoiseConfig as NoiseConfig
from orchestra.config.audio_schema import RirConfig as RirConfig
from orchestra.config.audio_schema import SpeedConfig as SpeedConfig
from orchestra.config.table import LabelChange as LabelChange
from orchestra.config.table import NonNegativeFloat as NonNegativeFloat
from orchestra.config.table import NonNegativeInt as NonNegativeInt
from orchestra.config.table import Share as Share
from orchestra.config.table import Table as Table
from orchestra.config.upstream_schema import FbankConfig as FbankConfig
from orchestra.config.upstream_schema import FileConfig as FileConfig
from orchestra.config.upstream_schema import HuggingFaceConfig as HuggingFaceConfig
from orchestra.config.upstream_schema import LayeredConfig as LayeredConfig
from orchestra.config.upstream_schema import LinearConfig as LinearConfig
from orchestra.config.upstream_schema import MelConfig as MelConfig
from orchestra.config.upstream_schema import MfccConfig as MfccConfig
from orchestra.config.upstream_schema import SpectralConfig as SpectralConfig
from orchestra.config.upstream_schema import SpectrogramConfig as SpectrogramConfig
from orchestra.config.upstream_schema import UpstreamConfig as UpstreamConfig
from orchestra.config.upstream_schema import UpstreamParts as UpstreamParts

INCOMPLETE = "incomplete"
"""Error type: several keys could give what is missing."""


class TaskConfig(Table):
    """Base of every task's `config.py: Config`. `kind` is the task's folder name."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names that the command line takes for the task, such as S3PRL's."""
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset()
    """Augmentation that leaves the task's labels true; other such augmentation is refused.

    A transcript survives a change of speed, but not a cut: {"speed"}. A speaker survives a cut, but
    at another speed is somebody else: {"crop"}. Labels that hold times in the recording survive
    neither.
    """

    kind: str


class BatchConfig(Table):
    """The global batch, whatever the number of ranks."""

    seconds: PositiveFloat
    """Audio (padding included) in one optimizer step, over all ranks."""
    max_micro_seconds: PositiveFloat
    """Audio (padding included) in one forward pass: what fits into memory."""
    micro_batches: PositiveInt | None = None
    """V: micro-batches of a step, frozen at the first start; any divisor of V may resume."""
    too_long: Literal["refuse", "isolate"] = "refuse"
    """An utterance above max_micro_seconds ends the run before it starts, or makes a micro-batch
    of its own; it is named in both cases."""
    eval_seconds: PositiveFloat | None = None
    """Audio in one evaluation batch; default: max_micro_seconds."""


class FreezeConfig(Table):
    """Parameters that are not trained, for a while or ever."""

    parameters: str
    """Beginning of their names up to a dot, such as `upstream` or `upstream.model.encoder`."""
    until_step: PositiveInt | None = None
    """The first step that trains them; default: none does."""


class OptimConfig(Table):
    """The optimizer."""

    kind: Literal["adamw", "adam", "adafactor", "sgd"] = "adamw"
    lr: PositiveFloat
    betas: tuple[Share, Share] = (0.9, 0.999)
    """adam, adamw: decay of the running means of gradients and of their squares."""
    eps: PositiveFloat = 1e-8
    momentum: Share = 0.0
    """sgd: decay of the running sum of gradients."""
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: NonNegativeFloat = 1.0
    """Global gradient norm over all groups; 0 switches clipping off."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep an exponential moving average of the weights; it is what is evaluated."""
    freeze: list[FreezeConfig] = []


class ScheduleConfig(Table):
    """Learning-rate factor as a closed form of the step."""

    kind: Literal["linear", "cosine", "polynomial", "step", "constant"] = "constant"
    warmup_steps: NonNegativeInt = 0
    warmup_ratio: Share = 0.0
    """Warm-up as a share of all steps, instead of warmup_steps."""
    final_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Factor at the last step (linear, cosine, polynomial)."""
    power: PositiveFloat = 2.0
    """polynomial: of the share of steps that is left."""
    every: PositiveInt = 10_000
    """step: steps from one drop to the next, counted from the end of the warm-up."""
    drop: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """step: what each drop multiplies by."""

    @model_validator(mode="after")
    def _one_warm_up(self) -> Self:
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError("warmup_steps and warmup_ratio are both given; set one of them to 0")
        return self


class StoppingConfig(Table):
    """Early stopping: the run completes when its validations no longer get better."""

    patience: PositiveInt
    """Validations without an improvement after which it ends."""
    metric: str | None = None
    """Default: checkpoint.metric."""
    direction: Literal["min", "max"] | None = None
    """Default: the task's for this metric."""
    min_delta: NonNegativeFloat = 0.0
    """What counts as an improvement."""


class RegulariseConfig(Table):
    """Loss terms that any task can have which gives its outputs (orchestra.tasks.Outputs)."""

    label_smoothing: Share = 0.0
    r_drop: NonNegativeFloat = 0.0
    """Weight of the divergence between two passes with other dropout masks."""
    vat: NonNegativeFloat = 0.0
    """Weight of the divergence that the worst small perturbation of the features causes."""
    vat_epsilon: PositiveFloat = 0.1
    """Norm of that perturbation, relative to that of the utterance's features."""
    vat_iterations: PositiveInt = 1
    """Power iterations that look for it."""


class TrainConfig(Table):
    """The loop. It ends at the first of the limits."""

    max_steps: PositiveInt | None = None
    max_epochs: PositiveInt | None = None
    max_hours: PositiveFloat | None = None
    """Of training, validation and saving, over all attempts."""
    eval_every: PositiveInt | None = None
    """Validation on data.valid every so many steps, and after the last."""
    eval_every_epochs: PositiveFloat | None = None
    """The same by epochs, 0.5 is twice in each; with both given, both count."""
    eval_at_start: bool = False
    """Also before the first step."""
    stopping: StoppingConfig | None = None
    log_every: PositiveInt = 20
    log_format: Literal["text", "json"] = "text"
    """Of the lines about steps in rank 0's log."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16, fp16: autocast; fp16 with a loss scale that adapts."""
    deterministic: bool = False
    """GPU only: deterministic kernels; CPU runs always are."""

    @model_validator(mode="after")
    def _ends_and_validates(self) -> Self:
        if self.max_steps is None and self.max_epochs is None and self.max_hours is None:
            raise _incomplete("give max_steps, max_epochs or max_hours")
        if self.eval_every is None and self.eval_every_epochs is None:
            raise _incomplete("give eval_every (steps) or eval_every_epochs")
        return self

    def limits(self) -> dict[str, float]:
        """What may end a run, by key; never empty."""
        patience = self.stopping.patience if self.stopping else None
        limits = {
            "train.max_steps": self.max_steps,
            "train.max_epochs": self.max_epochs,
            "train.max_hours": self.max_hours,
            "train.stopping.patience": patience,
        }
        return {key: value for key, value in limits.items() if value is not None}


class CheckpointConfig(Table):
    """When to save, what to keep."""

    every: PositiveInt
    keep_last: Annotated[int, Field(ge=2)] = 2
    keep_best: PositiveInt = 1
    keep_every: PositiveInt | None = None
    """Also keep, for good, those of steps that this divides."""
    metric: str | None = None
    """Validation metric that names the best; default: the task's first metric."""
    direction: Literal["min", "max"] | None = None
    """Which values of it are better; default: the task's word."""
    export_best: bool = False
    """Write the best weights to the run's export/ folder whenever they change."""

    @model_validator(mode="after")
    def _keeps_what_is_saved(self) -> Self:
        if self.keep_every is not None and self.keep_every % self.every:
            raise ValueError(
                f"keep_every = {self.keep_every} is no multiple of every = {self.every}, so that "
                "steps to keep would not be saved; make it one"
            )
        return self


class InitConfig(Table):
    """Weights that a new run starts from, instead of random ones."""

    source: str
    """What the user named: a run, or a folder."""
    folder: Path
    """The checkpoint or export that was meant; what is loaded is the run's own copy of it."""
    sha256: str
    """Of its manifest."""
    parts: list[str] = []
    """Beginnings of parameter names (up to a dot) to take, such as `upstream`; default: all."""


class LaunchConfig(Table):
    """Processes, devices, restarts."""

    device: Literal["cpu", "gpu"] = "cpu"
    gpu_ids: list[str] = []
    """Wanted GPUs by index or UUID; empty: any free ones."""
    nproc: PositiveInt = 1
    """Ranks; on GPUs one per device."""
    threads: PositiveInt = 1
    """Intra-op threads of a rank; part of exactness on CPU, hence frozen."""
    max_restarts: NonNegativeInt = 2
    """Restarts since the last checkpoint progress after which the run fails: three attempts."""
    backoff_s: NonNegativeFloat = 1.0
    """The first restart after progress is at once; the next waits about so long, each one after it
    twice as long, up to 60 s."""
    step_deadline_s: PositiveFloat = 30.0
    """A rank silent for so long in forward, backward or optimizer hangs; for five times the 99th
    percentile of that phase's silences, if that is longer."""
    long_deadline_s: PositiveFloat = 300.0
    """The same for starting, loading data, evaluating and saving."""
    oom_split: bool = False
    """Out of memory: try again with each micro-batch cut in two. The run is then not exact."""
    grace_s: NonNegativeFloat = 30.0
    """Time to save and end after `stop` before ranks are killed."""


class RunConfig(Table):
    """One frozen config. `task` is validated by the task's own model (orchestra.tasks)."""

    version: Literal[1] = 1
    seed: NonNegativeInt
    task: SerializeAsAny[TaskConfig]
    upstream: UpstreamConfig
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    batch: BatchConfig
    optim: OptimConfig
    schedule: ScheduleConfig = ScheduleConfig()
    regularise: RegulariseConfig = RegulariseConfig()
    train: TrainConfig
    checkpoint: CheckpointConfig
    init: InitConfig | None = None
    cache: CacheConfig = CacheConfig()
    launch: LaunchConfig = LaunchConfig()
    each: dict[str, list[bool | int | float | str]] = {}
    """Keys, and values that each is given in a run of its own: `run` submits one member of a parent
    run for each of their combinations. A key that --set gives makes no members."""

    @model_validator(mode="after")
    def _schedule_has_an_end(self) -> Self:
        falls = self.schedule.kind in ("linear", "cosine", "polynomial")
        endless = self.train.max_steps is None and self.train.max_epochs is None
        if endless and (falls or self.schedule.warmup_ratio):
            wish = f"schedule.kind = {self.schedule.kind!r}" if falls else "schedule.warmup_ratio"
            raise _incomplete(f"{wish} needs train.max_steps or train.max_epochs")
        return self

    @model_validator(mode="after")
    def _cached_features_stay_true(self) -> Self:
        if not self.cache.features:
            return self
        layered = self.upstream if isinstance(self.upstream, LayeredConfig) else None
        if layered is not None and layered.trainable:
            raise ValueError(
                "cache.features keeps what a frozen upstream gives, but upstream.trainable = true "
                "changes it with every step: set one of them to false"
            )
        if self.augment.is_on():
            raise ValueError(
                "cache.features keeps the features of each recording, but augment changes the "
                "audio in every epoch: set cache.features = false, or leave out augment"
            )
        if layered is not None and layered.layers is not None and self.cache.layers is not None:
            raise ValueError(
                f"upstream.layers = {layered.layers} chooses the one layer that is used: leave out "
                "cache.layers, or upstream.layers for the learnt sum of those"
            )
        return self

    @model_validator(mode="after")
    def _labels_survive_augmentation(self) -> Self:
        done = {"crop": "was cut", "speed": "is played at another speed"}
        for change, key in self.augment.changes().items():
            if change not in self.task.keeps_labels_under:
                raise ValueError(
                    f"leave out {key}: the labels of task {self.task.kind!r} would not fit audio "
                    f"that {done[change]} (keeps_labels_under in its config.py)"
                )
        return self


def _incomplete(text: str) -> PydanticCustomError:
    """What only a preset that couldn't be read may have set is no mistake of the others."""
    return PydanticCustomError(INCOMPLETE, text)


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
