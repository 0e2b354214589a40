"""What a pretrained model says of itself: config.json and preprocessor_config.json.

Local folders and hub ids alike. Standard library and huggingface_hub only: no torch here, so that
describing a model costs no import of it. Weights are neither loaded nor, on the hub, fetched.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.data import SAMPLE_RATE
from orchestra.upstreams.families import FAMILIES, Family
from orchestra.upstreams.families.shapes import ConfigFile, Shape
from orchestra.wire.errors import NotFoundError, UsageError

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
    preprocessor: dict[str, Any] | None
    """preprocessor_config.json as it is; None if there is none."""
    normalize: bool
    """Whether each waveform is brought to zero mean and unit variance first."""
    shape: Shape
    commit: str | None = None
    """What `revision` meant on the hub when it was fetched; None for a folder."""

    @property
    def model_type(self) -> str:
        return str(self.config["model_type"])

    @property
    def is_local(self) -> bool:
        return _is_folder(self.source)

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    def identity(self) -> dict[str, str]:
        """Which weights these are: the hub's commit, or a hash of a folder's files (1 s per GB)."""
        if self.commit is not None:
            return {"source": self.source, "revision": self.commit}
        return {"source": self.source, "weights_sha256": _weights_sha256(Path(self.source))}


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
    family = _family(source, config)
    shape = family.shape(ConfigFile(source, config))
    if _is_folder(source):
        _check_weights(Path(source))
    preprocessor = _preprocessor(source, _fetch(source, revision, "preprocessor_config.json"))
    normalize = family.takes_waveforms and _wants_normalized(config, preprocessor)
    # The cache lays a commit's files out in snapshots/<commit>/.
    commit = None if _is_folder(source) else path.parent.name
    return Pretrained(source, revision, config, preprocessor, normalize, shape, commit)


def _family(source: str, config: dict[str, Any]) -> Family:
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UsageError(
            f"{source} is a model of type {family!r}; an upstream is one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[family]


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


def _preprocessor(source: str, path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    preprocessor = _read_object(path)
    rate = preprocessor.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise UsageError(
            f"{source} was trained on {rate} Hz audio; upstreams are fed {SAMPLE_RATE} Hz"
        )
    return preprocessor


def _wants_normalized(config: dict[str, Any], preprocessor: dict[str, Any] | None) -> bool:
    if preprocessor is None:
        # Families trained on normalised waveforms are those without the first layer's group norm.
        return bool(config.get("feat_extract_norm", "layer") == "layer")
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
