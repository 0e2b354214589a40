"""The task plug-in API and discovery. Imports no torch: the CLI lists tasks too.

A task is a folder `tasks/<name>/` with
    config.py   `class Config(TaskConfig)`, kind = <name>; pydantic only
    task.py     `class Task(orchestra.tasks.Task)`; imported by the ranks
Nothing in a task knows of ranks, devices, checkpoints or the registry. `orchestra task new NAME`
makes one that runs; `orchestra task check NAME` tells whether one keeps what stands here.
"""

from __future__ import annotations

import importlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from orchestra.config.schema import DataConfig, TaskConfig
from orchestra.wire.builtin import builtin_folder as builtin_folder
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError, in_words
from orchestra.wire.manifest import Utterance, read_manifest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

Direction = Literal["min", "max"]
Prediction = dict[str, Any]
"""JSON object with at least "id"; what `score` needs, one per utterance."""


@dataclass(frozen=True)
class Stored:
    """What the feature cache has of a batch."""

    layers: torch.Tensor
    """(layers, batch, frames, dim) float16; zero at and after an utterance's length."""
    lengths: torch.Tensor
    """(batch,) int64, in frames; 0 for an utterance that is not in the cache."""
    keys: list[str]
    """Under which each is to be stored."""


@dataclass(frozen=True)
class Batch:
    """Some utterances, padded. Built by a loader worker, moved to the device by the loop."""

    ids: list[str]
    wavs: torch.Tensor
    """(batch, samples) float32, zero padded, 16 kHz; empty rows where `stored` has features."""
    lengths: torch.Tensor
    """(batch,) int64, in samples."""
    targets: dict[str, torch.Tensor]
    """What the task's `collate` made; empty where a split has no labels."""
    seeds: list[int]
    """One per utterance, keyed by (run seed, epoch, id): the only source of augmentation."""
    utterances: list[Utterance] = field(default_factory=list)
    stored: Stored | None = None
    """Of the feature cache; None where there is none. For the model, not for tasks."""
    silent: list[str] = field(default_factory=list)
    """Ids of those in which there is nothing to hear (orchestra.data.audio.SILENCE)."""


@dataclass(frozen=True)
class Outputs:
    """A task's distributions over classes, for loss terms that any task can have."""

    logits: torch.Tensor
    """(..., classes)."""
    weights: torch.Tensor
    """(...): what each distribution counts; 0 where there is only padding. They sum up to the
    `weight` of the loss terms, so that uneven batches weigh exactly."""
    sizes: tuple[int, ...] = ()
    """Where several distributions stand side by side in `logits`, as of a label's slots: how many
    classes each has. What is asked of one is then summed over them."""


@dataclass(frozen=True)
class LossTerms:
    """A loss as a sum over its natural units, so that uneven batches weigh exactly."""

    sum: torch.Tensor
    """Scalar; the sum (not the mean) over `weight` units."""
    weight: torch.Tensor
    """Scalar, > 0: how many units (frames, characters, utterances) were summed."""
    scalars: dict[str, torch.Tensor] = field(default_factory=dict)
    """More sums to log; each is divided by `weight` too."""
    outputs: Outputs | None = None
    """What the loss was computed from; needed where the config's `regularise` asks for more."""


class Task(ABC):
    """One thing to learn. Constructed once per process, on the CPU."""

    metrics: Mapping[str, Direction]
    """What `score` returns at least, the first one naming the best checkpoint by default."""

    def __init__(self, config: Any, data: DataConfig) -> None:
        self.config = config
        self.data = data

    def utterances(self, split: str) -> list[Utterance]:
        """All utterances of a split (NotFoundError, DataError as `read_manifest`).

        A task that makes its own data lets `orchestra.wire.manifest.join` take joint splits apart.
        """
        if self.data.manifests is None:
            raise UsageError("data.manifests is not set: --set data.manifests=FOLDER")
        return read_manifest(self.data.manifests, split)

    def read(self, utterance: Utterance) -> npt.NDArray[np.float32]:
        """The waveform, 16 kHz mono in [-1, 1], shape (samples,); DataError names the id."""
        from orchestra.data.audio import read_audio

        return read_audio(utterance)

    def learn(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """What the training split teaches before the first step, such as its classes; JSON.

        Kept with the run: `recall` gets it in every process, before `build_head`, also where the
        training split is no longer at hand.
        """
        return {}

    def recall(self, learnt: Mapping[str, Any]) -> None:
        """Take over what `learn` returned."""
        return

    def target(self, utterance: Utterance) -> Any:
        """The label of one utterance, or None where it has none; DataError if it is unusable."""
        return None

    def collate(self, targets: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Padded tensors of the labels of a batch; empty if they are all None."""
        return {}

    @abstractmethod
    def build_head(self, dim: int, stride: int) -> torch.nn.Module:
        """The trainable head on features of `dim` dimensions, one frame each `stride` samples."""

    @abstractmethod
    def loss(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        """The training loss. features (batch, frames, dim), lengths (batch,) in frames."""

    @abstractmethod
    def predict(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        """One record per utterance, independent of its neighbours and of padding.

        What was recognised alone: no reference is in it.
        """

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """The prediction with what `score` compares it to; as it is where there is no label.

        Raises:
            DataError: the label can't be used; names the id.
        """
        return prediction

    @abstractmethod
    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """The metrics of a whole split, from records ordered by id; empty if none has a label."""

    def stops_early(self, validations: Sequence[Mapping[str, float]]) -> bool | None:
        """Whether training is to end after these validations, oldest first; all ranks ask.

        Each holds the metrics and "step". None leaves it to the config's train.stopping.
        """
        return None


@dataclass(frozen=True)
class TaskInfo:
    """A task found on disk."""

    name: str
    folder: Path
    builtin: bool
    shadows: Path | None = None
    """The built-in folder that this workspace task hides."""

    def summary(self) -> str:
        """First line of the README, without its hash and the task's name."""
        readme = self.folder / "README.md"
        if not readme.is_file():
            return ""
        text = readme.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        return text.lstrip("# ").removeprefix(f"{self.name}: ")

    def module(self, part: str) -> ModuleType:
        """`<part>.py` of its folder (UsageError: it is missing or can't be imported)."""
        try:
            return _load(self, part)
        except OrchestraError:
            raise
        except (Exception, SystemExit) as error:  # there is nothing that such code can't raise
            raise UsageError(f"{self.folder / part}.py: {in_words(error)}") from error

    def config_model(self) -> type[TaskConfig]:
        """The task's `Config` (UsageError names the file and what is wrong with it)."""
        model = getattr(self.module("config"), "Config", None)
        if not (isinstance(model, type) and issubclass(model, TaskConfig)):
            raise UsageError(
                f"{self.folder / 'config.py'}: no class Config(orchestra.config.schema.TaskConfig)"
            )
        if get_args(model.model_fields["kind"].annotation) != (self.name,):
            raise UsageError(
                f"{self.folder / 'config.py'}: Config must have the folder's name as its kind: "
                f'kind: Literal["{self.name}"] = "{self.name}"'
            )
        return model

    def aliases(self) -> tuple[str, ...]:
        """Its other names; none where its config can't be read, which whoever uses it is told."""
        try:
            return self.config_model().aliases
        except UsageError:
            return ()

    def task_class(self) -> type[Task]:
        """The task's `Task`; imports torch."""
        module = _load(self, "task")
        cls = getattr(module, "Task", None)
        if not (isinstance(cls, type) and issubclass(cls, Task)):
            raise UsageError(f"{self.folder / 'task.py'}: no class Task(orchestra.tasks.Task)")
        return cls


def discover(workspace: Path) -> dict[str, TaskInfo]:
    """All tasks by name: the workspace's own, then the built-in ones they don't shadow.

    Raises:
        UsageError: two folders of the workspace claim one name (by case or by hyphen).
    """
    builtin = {path.name: path for path in _task_folders(builtin_folder() / "tasks")}
    found = {name: TaskInfo(name, path, builtin=True) for name, path in builtin.items()}
    own = workspace / "tasks"
    if own.resolve() == (builtin_folder() / "tasks").resolve():
        return found
    claimed: dict[str, Path] = {}
    for path in _task_folders(own):
        key = path.name.lower().replace("-", "_")
        if key in claimed:
            raise UsageError(
                f"two tasks of one name: {claimed[key]} and {path}; rename one of the folders"
            )
        claimed[key] = path
        found[path.name] = TaskInfo(path.name, path, builtin=False, shadows=builtin.get(path.name))
    return found


def find_task(name: str, workspace: Path) -> TaskInfo:
    """The task called `name` (NotFoundError names the nearest)."""
    from difflib import get_close_matches

    tasks = discover(workspace)
    if name in tasks:
        return tasks[name]
    aliases = {alias: task for task in tasks.values() for alias in task.aliases()}
    if name in aliases:
        return aliases[name]
    near = get_close_matches(name, [*tasks, *aliases], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(tasks))}"
    raise NotFoundError(f"no task {name!r}: {hint}")


def _task_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if (path / "config.py").is_file())


def _load(info: TaskInfo, part: str) -> ModuleType:
    """Import `<folder>/<part>.py` as `orchestra_tasks.<name>.<part>`; relative imports work."""
    package = f"orchestra_tasks.{info.name}"
    parent = sys.modules.get("orchestra_tasks")
    if parent is None:
        parent = ModuleType("orchestra_tasks")
        parent.__path__ = []
        sys.modules["orchestra_tasks"] = parent
    loaded = sys.modules.get(package)
    if loaded is None or loaded.__path__ != [os.fspath(info.folder)]:
        for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
            del sys.modules[name]
        loaded = ModuleType(package)
        loaded.__path__ = [os.fspath(info.folder)]
        sys.modules[package] = loaded
    try:
        return importlib.import_module(f"{package}.{part}")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.{part}":
            raise
        raise UsageError(f"{info.folder / (part + '.py')} is missing") from error
