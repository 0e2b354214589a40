"""Opens the feature cache for a model: what its entries follow from, and how audio is named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import soundfile
import torch
from torch import Tensor, nn

from orchestra.config.schema import FileConfig, RunConfig
from orchestra.data.feature_store import FeatureStore, Kind
from orchestra.data.recording_hashes import RecordingHashes
from orchestra.tasks import Task
from orchestra.train.model import SpeechModel
from orchestra.train.precision import autocast
from orchestra.train.session import Session
from orchestra.upstreams.probe import probe
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.features import RECORDINGS, default_folder, makers
from orchestra.wire.folders import RunsFolder
from orchestra.wire.manifest import Utterance


def open_features(
    session: Session, model: SpeechModel, step: Callable[[], int]
) -> FeatureStore | None:
    """The cache that the config asks for, which gets what the model computes; None if none.

    Args:
        step: where the run stands, for what is told.

    Raises:
        UsageError: the upstream has no weights to know it by, or its features can't be kept.
    """
    config = session.config
    if not config.cache.features:
        return None
    folder = config.cache.folder or default_folder(RunsFolder(session.job.run.path.parent))
    store = FeatureStore(
        folder,
        kind_of(config, model),
        content_of(session.task, RecordingHashes(folder / RECORDINGS)),
        lambda text: session.tell(step(), text),
        round(config.cache.max_gb * 2**30),
    )
    model.keep_features(store.put)
    return store


def kind_of(config: RunConfig, model: SpeechModel) -> Kind:
    """What the features of this model follow from, but for the audio.

    Other versions of what decodes, resamples and computes, other processors and numbers of threads
    may round otherwise: where they do, they have entries of their own.

    Raises:
        UsageError: the upstream has no identity, or its features can't be kept.
    """
    identity, own = model.upstream.identity(), config.upstream
    # Hashes name files wherever they lie.
    causes: dict[str, Any] = {k: v for k, v in identity.items() if k.endswith("_sha256")}
    if not causes:
        raise UsageError(
            f"cache.features: upstream {config.upstream.name!r} has no weights whose hash would "
            "tell its features from others': set cache.features = false"
        )
    key, layers = model.featurizer.key, model.stored_layers
    assert layers is not None, "cache.features is on"
    if isinstance(own, FileConfig):  # its file may load anything, and draw by the seed
        causes |= {"options": own.options, "tensors_sha256": _tensors_sha256(model.upstream)}
    device = next(model.parameters()).device
    causes |= {
        "output": key,
        "layers": layers,
        "precision": config.train.precision,
        "device": device.type,
        "deterministic": config.train.deterministic,
        "libsndfile": soundfile.__libsndfile_version__,
        **makers(),
        "probe_sha256": _probe_sha256(config, model, layers, device),
    }
    remarks = {
        "source": identity.get("source", ""),
        "processor": _processor(device),
        "threads": torch.get_num_threads(),
    }
    dim = model.upstream.layer_dims(key)[layers[0]]
    return Kind(causes, remarks, len(layers), dim)


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


def _probe_sha256(
    config: RunConfig, model: SpeechModel, layers: list[int], device: torch.device
) -> str:
    def heard(seed: int) -> str:
        torch.manual_seed(seed)
        return _sha256({"probe": probe(model.upstream, model.featurizer.key, layers, device)})

    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), autocast(config.train, device), torch.random.fork_rng(devices):
        first = heard(0)
        if isinstance(config.upstream, FileConfig) and heard(1) != first:
            raise UsageError(
                f"cache.features: upstream {config.upstream.name!r} gives other features for the "
                "same audio each time: take what is random out of it (dropout needs "
                "training=self.training), or set cache.features = false"
            )
    return first


def _tensors_sha256(upstream: nn.Module) -> str:
    # Buffers that no checkpoint holds may be drawn too.
    return _sha256({**dict(upstream.named_buffers()), **upstream.state_dict()})


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def content_of(task: Task, hashes: RecordingHashes) -> Callable[[Utterance], str]:
    """Names the audio of an utterance."""

    def of_recording(utterance: Utterance) -> str:
        try:
            digest = hashes.of(utterance.path)
        except OSError as error:
            text = f"utterance {utterance.id!r}: {utterance.path}: {error.strerror}"
            raise DataError(text) from error
        return f"{digest} {utterance.offset_s!r} {utterance.duration_s!r}"

    def of_waveform(utterance: Utterance) -> str:
        return hashlib.sha256(task.read(utterance).tobytes()).hexdigest()

    # What a task's own way of reading makes of a file, only it can tell.
    return of_recording if type(task).read is Task.read else of_waveform
