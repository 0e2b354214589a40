"""What a pretrained model says of itself: config.json and preprocessor_config.json.

Local folders and hub ids alike. Standard library and huggingface_hub only: no torch here, so that
describing a model costs no import of it. Weights are neither loaded nor, on the hub, fetched.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from orchestra.data import SAMPLE_RATE
from orchestra.wire.errors import NotFoundError, UsageError

FAMILIES = ("wav2vec2", "hubert", "wavlm")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
SAFETENSORS_REMEDY = (
    "pickled weights are never loaded; convert them with transformers' save_pretrained, or set "
    "upstream.revision to a revision that has model.safetensors"
)


@dataclass(frozen=True)
class Pretrained:
    """A model of one of `FAMILIES`, not loaded yet."""

    source: str
    """Hub id or folder."""
    revision: str | None
    config: dict[str, Any]
    """config.json as it is."""
    normalize: bool
    """Whether each waveform is brought to zero mean and unit variance first."""
    commit: str | None = None
    """What `revision` meant on the hub when it was fetched; None for a folder."""

    @property
    def model_type(self) -> str:
        return str(self.config["model_type"])

    @property
    def is_local(self) -> bool:
        return _is_folder(self.source)

    @property
    def layers(self) -> int:
        """Hidden states: the input of each transformer layer, and the final output."""
        return int(self.config["num_hidden_layers"]) + 1

    @property
    def dim(self) -> int:
        return int(self.config["hidden_size"])

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.config["conv_stride"])

    @property
    def min_samples(self) -> int:
        """Receptive field of one frame."""
        samples = 1
        layers = zip(self.config["conv_kernel"], self.config["conv_stride"], strict=True)
        for kernel, stride in reversed(list(layers)):
            samples = (samples - 1) * stride + kernel
        return samples

    def identity(self) -> dict[str, str]:
        """Which weights these are: the hub's commit, or a hash of a folder's files (1 s per GB)."""
        if self.commit is not None:
            return {"source": self.source, "revision": self.commit}
        return {
            "source": self.source,
            "weights_sha256": _weights_sha256(Path(self.source)),
            "config_sha256": _config_sha256(self.config, self.normalize),
        }


def read_pretrained(source: str, revision: str | None = None) -> Pretrained:
    """Read the description of the model at a hub id or in a folder.

    Raises:
        NotFoundError: no such folder or hub id, or the hub can't be reached.
        UsageError: the folder holds no model, or not one that can be used.
    """
    path = _fetch(source, revision, "config.json")
    if path is None:
        raise UsageError(f"{source} has no config.json: it is not a model of save_pretrained")
    config = _read_object(path)
    _check_config(source, config)
    if _is_folder(source):
        _check_weights(Path(source))
    preprocessor = _fetch(source, revision, "preprocessor_config.json")
    if preprocessor is None:
        # Families trained on normalised waveforms are those without the first layer's group norm.
        normalize = config["feat_extract_norm"] == "layer"
    else:
        normalize = _wants_normalized(source, _read_object(preprocessor))
    # The cache lays a commit's files out in snapshots/<commit>/.
    commit = None if _is_folder(source) else path.parent.name
    return Pretrained(source, revision, config, normalize, commit)


def _check_config(source: str, config: dict[str, Any]) -> None:
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UsageError(
            f"{source} is a model of type {family!r}; an upstream is one of {', '.join(FAMILIES)}"
        )
    for key in ("num_hidden_layers", "hidden_size"):
        if not isinstance(config.get(key), int):
            raise UsageError(f"config.json of {source}: {key!r} is not a number")
    kernels, strides = config.get("conv_kernel"), config.get("conv_stride")
    if not (_are_numbers(kernels) and _are_numbers(strides) and len(kernels) == len(strides)):
        raise UsageError(
            f"config.json of {source}: 'conv_kernel' and 'conv_stride' are not lists of one length"
        )
    if config.get("feat_extract_norm") not in ("group", "layer"):
        raise UsageError(f"config.json of {source}: 'feat_extract_norm' is not 'group' or 'layer'")


def _are_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(number, int) for number in value)


def _check_weights(folder: Path) -> None:
    if any((folder / name).is_file() for name in WEIGHTS):
        return
    raise UsageError(f"{folder} has no model.safetensors: {SAFETENSORS_REMEDY}")


def _weights_sha256(folder: Path) -> str:
    """Of the hashes of all safetensors files, by name."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.name} {digest}\n".encode())
    return whole.hexdigest()


def _config_sha256(config: dict[str, Any], normalize: bool) -> str:
    """Of what else the features follow from."""
    text = json.dumps([config, normalize], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _wants_normalized(source: str, preprocessor: dict[str, Any]) -> bool:
    rate = preprocessor.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise UsageError(
            f"{source} was trained on {rate} Hz audio; upstreams are fed {SAMPLE_RATE} Hz"
        )
    # True is the default of the class that writes this file.
    return bool(preprocessor.get("do_normalize", True))


def _is_folder(source: str) -> bool:
    return Path(source).is_absolute() or Path(source).is_dir()


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"cannot read {path}: it is not a JSON object")
    return value


def _fetch(source: str, revision: str | None, name: str) -> Path | None:
    """The local path of one file of the model, or None if the model has no such file."""
    if not _is_folder(source):
        return _fetch_from_hub(source, revision, name)
    folder = Path(source)
    if not folder.is_dir():
        raise NotFoundError(f"no folder {folder}: give a hub id or a folder of save_pretrained")
    path = folder / name
    return path if path.is_file() else None


def _fetch_from_hub(source: str, revision: str | None, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The cache first: a run that resumes must not follow the hub's main branch, nor need a network.
    try:
        return Path(hf_hub_download(source, name, revision=revision, local_files_only=True))
    except HFValidationError as error:
        raise NotFoundError(f"{source!r} is neither a folder nor a hub id") from error
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except RevisionNotFoundError as error:
        raise NotFoundError(f"the hub's {source} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise NotFoundError(f"the hub has no model {source!r} that you may read") from error
    except LocalEntryNotFoundError as error:
        raise NotFoundError(
            f"{source} is not in the local cache and the hub can't be reached: download it where "
            "there is a network and give its folder"
        ) from error
    except EntryNotFoundError:
        return None
