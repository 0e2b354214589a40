"""What is looked at before anything is written: data, disk, upstream, GPUs. Changes nothing.

All findings are told at once, each with its remedy.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from orchestra.config.schema import AugmentConfig, RunConfig, SpectralConfig, TaskConfig
from orchestra.gpu import snapshot
from orchestra.gpu.pool import over_limit, visible, wanted
from orchestra.gpu.probe import Prober
from orchestra.gpu.snapshot import Snapshot
from orchestra.gpu.status import GpuState
from orchestra.schedule import upstreams
from orchestra.schedule.feature_plan import feature_plan
from orchestra.wire.errors import (
    ConflictError,
    DataError,
    NotFoundError,
    OrchestraError,
    UsageError,
)
from orchestra.wire.folders import RunsFolder
from orchestra.wire.manifest import read_summary

#: Less free space than this on the runs' disk and a run is not started.
LEAST_FREE_BYTES = 512 * 2**20
FEATURE_CACHE = "feature cache"
"""A finding that is told before a run starts."""


@dataclass(frozen=True)
class Finding:
    """Something that was looked at and is in order."""

    what: str
    detail: str
    model: dict[str, Any] | None = None
    """Of a pretrained upstream: see schedule.upstreams.describe."""


class PreflightError(UsageError):
    """Why the run can't start; one line per reason."""


def preflight(
    config: RunConfig,
    runs: RunsFolder,
    *,
    cpu_command: str,
    splits: tuple[str, ...] | None = None,
    root: Path | None = None,
    code: Path | None = None,
    is_new: bool = False,
) -> list[Finding]:
    """Look at everything the job needs.

    `cpu_command`: the same command without GPUs; `splits`: all that training needs, if None;
    `root`: of the workspace, whose pool and limit of GPUs count; `code`: where the run's code is,
    if it has a snapshot already; `is_new`: the upstream's names and URLs mean what they give now,
    not what they gave before.

    Raises:
        PreflightError: something is missing.
        ConflictError: nothing is missing but GPUs.
    """
    found: list[Finding] = []
    missing: list[str] = []
    looks = [
        _data(config, splits),
        _upstream(config, code or root or Path.cwd(), runs, splits, newest=is_new),
        _disk(runs),
    ]
    if splits is None:  # evaluation augments nothing, and may need no references
        looks[1:1] = [_task_files(config.task), _augmentation(config.augment)]
    for item in chain.from_iterable(looks):
        if isinstance(item, Finding):
            found.append(item)
        else:
            missing.append(item)
    conflict = None
    if config.launch.device == "gpu":
        try:
            with Prober() as prober:
                found.append(_gpus(config, snapshot.read(root, prober), cpu_command))
        except OrchestraError as error:
            conflict = error
    if missing:
        lines = [*missing, str(conflict)] if conflict else missing
        raise PreflightError("\n  ".join(lines))
    if conflict:
        raise conflict
    return found


def _data(config: RunConfig, splits: tuple[str, ...] | None) -> Iterator[Finding | str]:
    """The manifests of the splits, with counts; utterances that are too long to train on."""
    data = config.data
    if data.manifests is None:  # the task makes its own data; one that doesn't will say so
        if data.prepare is not None:
            remedy = prepare_command(data.prepare, data.root, Path("DIR"))
            yield f"data.manifests is not set: prepare them with `{remedy}`"
        return
    for split in dict.fromkeys(splits or (data.train, data.valid, *data.test)):
        try:
            summary = read_summary(data.manifests, split)
        except DataError as error:
            yield str(error)
            continue
        except NotFoundError as error:
            corpus = ""
            if data.root is not None and not data.root.is_dir():
                corpus = f", and no corpus folder {data.root} (data.root)"
            remedy = prepare_command(data.prepare, data.root, data.manifests)
            yield f"{error}{corpus}; prepare it with `{remedy}`"
            return
        yield Finding(
            f"split {split}",
            f"{summary.count} utterances, {summary.seconds / 3600:.2f} h, "
            f"longest {summary.longest_s:.1f} s",
        )
        if splits is None and split == data.train:
            yield from _too_long(config, summary.longest_s)


def _task_files(task: TaskConfig) -> Iterator[str]:
    """The files that the task's own table names, such as lexicons, are there."""
    for key, value in task:
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and not path.exists():
                yield f"task.{key}: there is no {path}; set it to what is there"


def _augmentation(config: AugmentConfig) -> Iterator[Finding | str]:
    """The manifests of noises and impulse responses, with counts."""
    for key, path in config.manifests().items():
        try:
            summary = read_summary(path.parent, path.stem)
        except OrchestraError as error:
            yield f"{key}.manifest: {error}"
            continue
        if summary.count:
            yield Finding(key, f"{summary.count} recordings, {summary.seconds / 3600:.2f} h")
        else:
            yield f"{key}.manifest: {path} lists no recordings"


def _too_long(config: RunConfig, longest_s: float) -> Iterator[Finding | str]:
    """Evaluation isolates what is too long for its batches; training as the config says."""
    batch = config.batch
    made_s = config.augment.longest_s(longest_s)
    if made_s <= batch.max_micro_seconds:
        return
    slowed = f", slowed down by augment.speed {made_s:.1f} s" if made_s > longest_s else ""
    said = (
        f"the longest utterance of {config.data.train} lasts {longest_s:.1f} s{slowed}, more than "
        f"batch.max_micro_seconds = {batch.max_micro_seconds:g}"
    )
    if batch.too_long == "isolate":
        yield Finding("too long", f"{said}: it has a micro-batch of its own")
    else:
        yield (
            f'{said}: raise it, cut what is too long, or --set batch.too_long="isolate" to give '
            "each a micro-batch of its own; `orchestra data stats` with the options of this "
            "command names them"
        )


def prepare_command(command: str | None, root: Path | None, manifests: Path) -> str:
    """The exact command: `{root}` and `{manifests}` in a preset's are filled in."""
    if command is None:
        command = "orchestra data prepare CORPUS --root {root} --out {manifests}"
    root_word, manifests_word = (shlex.quote(str(path)) for path in (root or "DIR", manifests))
    return command.replace("{root}", root_word).replace("{manifests}", manifests_word)


def _upstream(
    config: RunConfig,
    code: Path,
    runs: RunsFolder,
    splits: tuple[str, ...] | None,
    *,
    newest: bool,
) -> Iterator[Finding | str]:
    """A pretrained model can be reached, and used as far as its JSON files tell; or an own one."""
    upstream = config.upstream
    if isinstance(upstream, SpectralConfig):
        yield Finding("upstream", upstream.name)
        if config.cache.features:
            yield (
                f"cache.features: upstream {upstream.name!r} has no weights whose hash would tell "
                "its features from others': set cache.features = false"
            )
        return
    try:
        model = upstreams.describe(upstream, code, newest=newest)
    except OrchestraError as error:
        yield f"upstream {upstream.name!r}: {error}"
        return
    yield Finding("upstream", upstreams.sentence(upstream, model), model)
    if config.cache.features:
        yield from _features(config, runs, splits, model)


def _features(
    config: RunConfig, runs: RunsFolder, splits: tuple[str, ...] | None, model: Mapping[str, Any]
) -> Iterator[Finding | str]:
    """Room for the feature cache. An evaluation does without what does not fit."""
    data = config.data
    all_splits = splits or (data.train, data.valid, *data.test)
    try:
        yield Finding(FEATURE_CACHE, feature_plan(config, runs, all_splits, model))
    except UsageError as error:
        yield str(error) if splits is None else Finding(FEATURE_CACHE, str(error))
    except (NotFoundError, DataError):
        pass  # told with the data


def _disk(runs: RunsFolder) -> Iterator[Finding | str]:
    """Room for checkpoints, in the folder (or its nearest ancestor) the run will be in."""
    folder = runs.path
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        yield (
            f"only {free / 2**20:.0f} MiB are free on the disk of {runs.path}: make room "
            "(`orchestra gc`, `orchestra rm RUN`) or choose another with --runs-dir"
        )
    elif not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield f"{folder} can't be written to: choose another folder with --runs-dir"
    else:
        yield Finding("disk", f"{free / 2**30:.1f} GiB free at {runs.path}")


def _gpus(config: RunConfig, now: Snapshot, cpu_command: str) -> Finding:
    """Enough GPUs exist. That they are busy is no error: the run waits for them."""
    count = config.launch.nproc
    devices = [gpu.device for gpu in now.gpus]
    shown = visible(devices, os.environ.get("CUDA_VISIBLE_DEVICES"))
    inside = [gpu.device for gpu in now.gpus if gpu.inside]
    pool = [device for device in shown if device in inside]
    doubtful = {
        gpu.device.uuid: f"; GPU {gpu.device.index} is {gpu.status.reason}"
        for gpu in now.gpus
        if gpu.status.state == GpuState.UNKNOWN and not config.launch.gpu_ids
    }
    usable = [device for device in pool if device.uuid not in doubtful]
    asked = f"{count} GPU{'s' if count > 1 else ''} asked for"
    limit = over_limit(count, 0, now.limit)
    try:
        chosen = wanted(pool, config.launch.gpu_ids) if config.launch.gpu_ids else usable
    except NotFoundError as error:
        asked = str(error)
    else:
        if len(chosen) >= count and limit is None:
            return Finding("GPUs", f"{count} of {len(chosen)}")
    has = f"{len(usable)} usable" if usable else "no usable GPU"
    why = f" ({now.error})" if now.error else ""
    if len(shown) < len(devices):
        why = f" ({len(devices)} exist; CUDA_VISIBLE_DEVICES hides the others)"
    elif len(pool) < len(devices):
        why = f" ({len(devices)} exist; gpus.ids of orchestra.toml leaves the others out)"
    held = "".join(
        f"; GPU {gpu.device.index} is {gpu.status.reason}"
        for gpu in now.gpus
        if gpu.status.state == GpuState.LEASED
    )
    unknown = "".join(doubtful.values())
    most = f"; {limit}" if limit else ""
    raise ConflictError(
        f"{asked}, this machine has {has}{why}{most}{held}{unknown}. On the CPU: `{cpu_command}`"
    )
