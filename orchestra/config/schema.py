"""The typed config of a run: pydantic v2, strict, unknown keys forbidden.

Both planes import this module, `frozen`, `problems` and `validation`, and no other one of this
package: the frozen config is validated again by the code that runs, so a snapshot never trusts
another version's reading. Imports pydantic only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)
from pydantic_core import PydanticCustomError

NonNegativeFloat = Annotated[float, Field(ge=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
LabelChange = Literal["crop", "speed"]
"""Augmentation after which a label may no longer hold."""

INCOMPLETE = "incomplete"
"""Error type: several keys could give what is missing."""


class Table(BaseModel):
    """One TOML table. Task configs derive from `TaskConfig` below."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _is_manifest(path: Path) -> Path:
    if path.suffix != ".jsonl":
        raise ValueError("must be a manifest, FOLDER/SPLIT.jsonl")
    return path


ManifestPath = Annotated[Path, AfterValidator(_is_manifest)]


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


class FbankConfig(Table):
    """Log mel filter banks, as Kaldi computes them."""

    kind: Literal["fbank"] = "fbank"
    name: str = "fbank"
    mels: PositiveInt = 80
    deltas: Annotated[int, Field(ge=0, le=2)] = 2
    """Orders of deltas appended: 2 gives 240 dimensions from 80 mels."""
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class MfccConfig(Table):
    """Mel-frequency cepstral coefficients, as Kaldi computes them."""

    kind: Literal["mfcc"] = "mfcc"
    name: str = "mfcc"
    coefficients: PositiveInt = 13
    mels: PositiveInt = 23
    deltas: Annotated[int, Field(ge=0, le=2)] = 2
    """Orders of deltas appended: 2 gives 39 dimensions from 13 coefficients."""
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.coefficients > self.mels:
            raise ValueError(f"{self.mels} mels have no {self.coefficients} coefficients")
        return self


class MelConfig(Table):
    """Log mel energies of a centred short-time Fourier transform."""

    kind: Literal["mel"] = "mel"
    name: str = "mel"
    mels: PositiveInt = 80
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class LinearConfig(Table):
    """Log power spectra (201 bands) of a centred short-time Fourier transform."""

    kind: Literal["linear"] = "linear"
    name: str = "linear"
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class SpectrogramConfig(Table):
    """Log power spectra (257 bands, the lowest is the energy), as Kaldi computes them."""

    kind: Literal["spectrogram"] = "spectrogram"
    name: str = "spectrogram"
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    cmvn: bool = True
    """Mean and variance normalisation over each utterance."""


class UpstreamParts(Table):
    """Sources of single parts of a model: a hub id (`ORG/MODEL@REVISION`), a URL or a local path.

    A URL or path of one file may have any name; `URL#sha256=...` names the content it must have.
    """

    config: str | None = None
    preprocessor: str | None = None
    weights: str | None = None


class HuggingFaceConfig(Table):
    """A pretrained speech model as transformers loads it."""

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """What the user called it."""
    source: str
    """Hub id, URL of a folder, or the absolute path of a folder, as save_pretrained writes it."""
    revision: str | None = None
    """Of the hub: branch, tag or commit; the commit it means is frozen when a run is made."""
    parts: UpstreamParts | None = None
    """What does not come from `source`; the files of a URL are frozen here with their hashes."""
    shadows: str | None = None
    """The hub id in whose place `source` stands: an alias of orchestra.toml, or a local folder."""
    key: str = "hidden_states"
    """Which of the model's outputs is used: "hidden_states" or "last_hidden_state"."""
    layers: int | None = None
    """One layer (Python indexing, -1 is the last) instead of the learnt sum of all."""
    normalize: bool = False
    """Layer norm without parameters on each layer before the sum (S3PRL's feature_normalize)."""
    trainable: bool = False
    lr: PositiveFloat | None = None
    """Learning rate of the upstream when trainable; default: optim.lr."""


class FileConfig(Table):
    """A user's own upstream: a Python file of the workspace with one class."""

    kind: Literal["file"] = "file"
    name: str
    """What the user called it."""
    source: str
    """The file, relative to the workspace; what runs is the copy in the run's snapshot."""
    options: dict[str, Any] = {}
    """Keyword arguments of its class."""
    key: str = "hidden_states"
    """Which of its outputs is used."""
    layers: int | None = None
    """One layer (Python indexing, -1 is the last) instead of the learnt sum of all."""
    normalize: bool = False
    """Layer norm without parameters on each layer before the sum (S3PRL's feature_normalize)."""
    trainable: bool = False
    lr: PositiveFloat | None = None
    """Learning rate of the upstream when trainable; default: optim.lr."""


SpectralConfig = FbankConfig | MfccConfig | MelConfig | LinearConfig | SpectrogramConfig
"""Without weights, one layer."""
LayeredConfig = HuggingFaceConfig | FileConfig
"""With weights or code of their own, perhaps several layers, perhaps trainable."""
UpstreamConfig = Annotated[SpectralConfig | LayeredConfig, Field(discriminator="kind")]


class DataConfig(Table):
    """Where the manifests are and which splits are used."""

    root: Path | None = None
    """The corpus."""
    manifests: Path | None = None
    """Folder of <split>.jsonl files, as `orchestra data prepare` writes them."""
    prepare: str | None = None
    """The command that makes them, told where they are missing; `{root}`, `{manifests}` filled."""
    train: str = "train"
    """A split; "a+b" is the manifests a and b as one split, here and wherever a split is named."""
    valid: str = "dev"
    valid_utterances: PositiveInt | None = None
    """Validate on so many utterances, drawn by the seed; at the end the best checkpoint is
    evaluated on the whole split."""
    test: list[str] = ["test"]
    """Splits evaluated at the end of the run with the best checkpoint."""
    workers: NonNegativeInt = 2
    """Loader processes per rank; 0 reads in the training process."""
    silent: Literal["refuse", "report"] = "report"
    """An utterance below -90 dB of full scale ends the run, or is used and told."""


class NoiseConfig(Table):
    """Recordings that are added to the speech."""

    manifest: ManifestPath
    """A .jsonl file; of each line path, offset_s and duration_s count."""
    snr_db: tuple[float, float] = (5.0, 20.0)
    """Lowest and highest ratio of speech to noise, drawn evenly in dB."""
    probability: Probability = 1.0
    """Share of the utterances that get some."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError("snr_db is [lowest, highest]; swap them")
        return self


class RirConfig(Table):
    """Rooms that the speech is put into, as impulse responses."""

    manifest: ManifestPath
    """A .jsonl file; of each line path, offset_s and duration_s count."""
    probability: Probability = 1.0


class SpeedConfig(Table):
    """Speech played faster or slower, pitch included (Ko et al., Interspeech 2015)."""

    factors: list[Annotated[float, Field(ge=0.5, le=2)]] = [0.9, 1.0, 1.1]
    """One of them is drawn; 1.1 makes an utterance shorter by 1 / 1.1."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if not self.factors:
            raise ValueError("factors is empty; 1.0 is the speed as it is")
        return self


class AugmentConfig(Table):
    """What happens to the audio in training, and there alone; keyed by (seed, epoch, id)."""

    speed: SpeedConfig | None = None
    rir: RirConfig | None = None
    noise: NoiseConfig | None = None
    crop_s: NonNegativeFloat = 0.0
    """Train on a random part of so many seconds of what is longer; 0 leaves it whole."""

    def is_on(self) -> bool:
        """Whether any part is configured."""
        return bool(self.speed or self.rir or self.noise or self.crop_s)

    def manifests(self) -> dict[str, Path]:
        """Those that it reads, by the key of their table."""
        tables = {"augment.noise": self.noise, "augment.rir": self.rir}
        return {key: table.manifest for key, table in tables.items() if table is not None}

    def changes(self) -> dict[LabelChange, str]:
        """What may make labels untrue, with the key that asks for it."""
        changes: dict[LabelChange, str] = {}
        if self.speed is not None:
            changes["speed"] = "augment.speed"
        if self.crop_s:
            changes["crop"] = "augment.crop_s"
        return changes

    def longest_s(self, duration_s: float) -> float:
        """The most that is ever made of an utterance of so many seconds."""
        slowest = min(self.speed.factors) if self.speed else 1.0
        made_s = duration_s / slowest
        return min(made_s, self.crop_s) if self.crop_s else made_s


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


class CacheConfig(Table):
    """Hidden states of a frozen upstream, kept on disk so that they are computed once."""

    features: bool = False
    """Store them, rounded to float16; later epochs and other runs read them instead of audio."""
    layers: list[int] | None = None
    """Layers (Python indexing) that are stored, and that the learnt sum then sums; default: all,
    or the one of upstream.layers."""
    folder: Path | None = None
    """Default: `.features` in the folder of all runs, which they share."""
    max_gb: PositiveFloat = 100.0
    """GiB that the features of this run's splits may take; more is refused."""


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
