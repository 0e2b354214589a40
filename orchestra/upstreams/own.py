"""A user's own upstream: one class in a Python file of the workspace.

The file is a single one: it may import what is installed, not its neighbours, so that its hash says
what it computes. What it returns is checked, as every task relies on it. For example, the power of
frames of 10 ms, with `upstream.options = {decibels = true}`:

    from orchestra.upstreams.base import Features, Upstream

    class Power(Upstream):
        stride = 160       # samples from one frame to the next
        min_samples = 160  # of the shortest utterance that has a frame

        def __init__(self, decibels: bool = False):
            super().__init__()
            self.decibels = decibels

        def layer_dims(self, key):
            return [1]     # one layer of one dimension

        def extract(self, wavs, lengths):
            frames = wavs.unfold(1, 160, 160).square().mean(2, keepdim=True)
            if self.decibels:
                frames = 10 * (frames + 1e-10).log10()
            return Features({"hidden_states": [frames]}, lengths // 160)
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import safetensors.torch
import torch
from torch import Tensor

from orchestra.config.schema import FileConfig
from orchestra.upstreams.base import Features, Upstream
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError

_MODEL = "model."
"""Where an OwnUpstream has the user's."""


class OwnUpstream(Upstream):
    """The user's class with its promises checked. Frozen unless `config.trainable`."""

    def __init__(self, config: FileConfig, model: Upstream, identity: dict[str, str]) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self._identity = identity
        self.stride = self._positive("stride")
        self.min_samples = self._positive("min_samples")
        self.trainable = config.trainable
        self.dims = self.layer_dims(config.key)
        self.requires_grad_(config.trainable)
        self.train()

    def train(self, mode: bool = True) -> OwnUpstream:
        """Train mode switches dropout on; a frozen model ignores it."""
        super().train(mode and self.trainable)
        return self

    def identity(self) -> dict[str, str]:
        """The file and its hash."""
        return self._identity

    def layer_dims(self, key: str) -> list[int]:
        """As the user's class says."""
        dims = self.model.layer_dims(key)
        if not (isinstance(dims, list) and dims and all(isinstance(dim, int) for dim in dims)):
            raise self.wrong(f"layer_dims({key!r}) gave {dims!r}, not a list of numbers")
        return dims

    def extract(self, wavs: Tensor, lengths: Tensor) -> Features:
        """The user's, after a look at shapes and lengths (UsageError names the file)."""
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            features = self.model.extract(wavs, lengths)
        if not isinstance(features, Features):
            raise self.wrong(f"extract gave a {type(features).__name__}, not Features")
        frames = self._checked_frames(features, len(wavs))
        counts = features.lengths
        if counts.shape != (len(wavs),) or counts.dtype != torch.int64:
            raise self.wrong(
                f"lengths are {tuple(counts.shape)} {counts.dtype}, not ({len(wavs)},) torch.int64"
            )
        least, most = torch.stack(torch.aminmax(counts)).tolist()
        if least < 1 or most > frames:
            raise self.wrong(f"lengths reach from {least} to {most}; there are {frames} frames")
        return features

    def _checked_frames(self, features: Features, batch: int) -> int:
        key = self.config.key
        shapes = [tuple(layer.shape) for layer in features.layers.get(key, [])]
        frames = shapes[0][1] if shapes and len(shapes[0]) == 3 else 0
        expected = [(batch, frames, dim) for dim in self.dims]
        if shapes != expected:
            wanted = [f"({batch}, frames, {dim})" for dim in self.dims]
            raise self.wrong(
                f"layers[{key!r}] have the shapes {shapes}; layer_dims says {', '.join(wanted)}"
            )
        return frames

    def _positive(self, name: str) -> int:
        value = getattr(self.model, name, None)
        if not isinstance(value, int) or value < 1:
            raise self.wrong(f"{name} is {value!r}, not a number of samples")
        return value

    def wrong(self, what: str) -> UsageError:
        """What to raise when the class breaks a promise."""
        return UsageError(f"{self.config.source}: {type(self.model).__name__}: {what}")


def load_own(config: FileConfig, code: Path) -> OwnUpstream:
    """The upstream of a file below `code`, a run's snapshot or a workspace.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it can't be imported, has no such class or two, or the class refuses `options`.
    """
    identity, path = own_identity(config, code), code / config.source
    with mistakes(path, config.source):
        cls = _only_class(_imported(path), config.source)
    with mistakes(path, config.source, f": {cls.__name__}(**upstream.options)"):
        model = cls(**config.options)
        if "_modules" not in vars(model):
            raise TypeError("__init__ does not call super().__init__()")
        return OwnUpstream(config, model, identity)


@contextmanager
def mistakes(path: Path, source: str, doing: str = "") -> Iterator[None]:
    """Whatever the user's code raises, as a UsageError of one sentence with file and line."""
    try:
        yield
    except OrchestraError:
        raise
    except (Exception, SystemExit) as error:  # a mistake may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path.absolute())]
        place = f"{source}, line {lines[-1]}" if lines else source
        reason = " ".join(str(error).split())
        raise UsageError(f"{place}{doing}: {type(error).__name__}: {reason}") from error


def own_identity(config: FileConfig, code: Path) -> dict[str, str]:
    """The file and its hash, for the record (NotFoundError as `load_own`)."""
    content = _content(config, code)
    return {"source": config.source, "file_sha256": hashlib.sha256(content).hexdigest()}


def save_own(config: FileConfig, tensors: dict[str, Tensor], code: Path, folder: Path) -> None:
    """Write the file and model.safetensors of a tuned upstream.

    Args:
        tensors: that upstream's, by their names in its state_dict.
        folder: not there yet.

    Raises:
        NotFoundError: as `load_own`.
        OSError: the folder can't be written.
    """
    content = _content(config, code)
    folder.mkdir()
    (folder / Path(config.source).name).write_bytes(content)
    # Cloned: tied ones share their memory, which safetensors refuses.
    own = {name.removeprefix(_MODEL): tensor.clone() for name, tensor in tensors.items()}
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(own))


def _content(config: FileConfig, code: Path) -> bytes:
    try:
        return (code / config.source).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no upstream {config.source} in {code}: a run's snapshot has all files of the "
            "workspace but those that git ignores"
        ) from error


def _imported(path: Path) -> ModuleType:
    name = f"orchestra_upstream_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a path that ends with .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def _only_class(module: ModuleType, source: str) -> type[Upstream]:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Upstream)
        and value.__module__ == module.__name__
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(cls.__name__ for cls in found)
    raise UsageError(
        f"{source}: it must have one class derived from orchestra.upstreams.base.Upstream, and has "
        + (f"{len(found)}: {names}" if found else "none")
    )
