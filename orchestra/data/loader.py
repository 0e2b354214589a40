"""Reads and pads planned batches, in the training process or in workers that die with it.

What comes out follows from the plan alone: workers and prefetch change when, never what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from orchestra.data.audio import Waveform, is_silent
from orchestra.data.augmenter import Augmenter
from orchestra.data.batches import MicroBatch
from orchestra.data.feature_file import Entry
from orchestra.data.feature_store import FeatureStore, Found
from orchestra.data.keyed import keyed
from orchestra.data.workers import WorkerContext
from orchestra.tasks import Batch, Task
from orchestra.wire.errors import DataError
from orchestra.wire.lifeline import die_with_parent
from orchestra.wire.manifest import Utterance

PREFETCH = 3  # batches ahead, per worker


@dataclass(frozen=True)
class Request:
    """A batch to read: indices of utterances, and the epoch that keys their augmentation."""

    epoch: int
    indices: MicroBatch


class Loader:
    """Turns requests into batches, in order.

    Args:
        seed: the run's seed; the only other key of augmentation is (epoch, utterance id).
        augmenter: of training audio; evaluation has none.
        workers: processes that read ahead; 0 reads when asked. With workers, iterate from the main
            thread, and announce this process to its children (wire.lifeline) before.
    """

    def __init__(
        self,
        task: Task,
        utterances: Sequence[Utterance],
        *,
        seed: int,
        workers: int,
        augmenter: Augmenter | None = None,
    ) -> None:
        self._reader = _Reader(task, utterances, seed, augmenter)
        self._workers = workers

    def batches(
        self, requests: Iterable[Request], store: FeatureStore | None = None
    ) -> Iterator[Batch]:
        """One batch per request, on the CPU; features that are in `store` take the audio's place.

        Raises:
            DataError: a recording or label can't be used; the message names its id.
        """
        reader = self._reader if store is None else replace(self._reader, store=store)
        if store is not None:
            store.close()  # workers are not forked beside a thread that writes
        # The generator is the loader's own: the global one must not move when iteration starts.
        loader = DataLoader(
            reader,
            batch_size=None,
            sampler=requests,
            num_workers=self._workers,
            prefetch_factor=PREFETCH if self._workers else None,
            worker_init_fn=_start_worker,
            multiprocessing_context=WorkerContext() if self._workers else None,
            generator=torch.Generator(),
        )
        for answer in loader:
            yield reader.finished(answer)

    def read(self, request: Request, store: FeatureStore | None = None) -> Batch:
        """One batch, read in this process (DataError as `batches`)."""
        reader = replace(self._reader, store=store)
        return reader.finished(reader[request])


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    if device.type == "cpu":
        return batch

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        # Only from pinned memory does a copy run beside the computation.
        return tensor.pin_memory().to(device, non_blocking=True)

    stored = batch.stored
    if stored is not None:
        stored = replace(stored, layers=copied(stored.layers), lengths=copied(stored.lengths))
    return replace(
        batch,
        stored=stored,
        wavs=copied(batch.wavs),
        lengths=copied(batch.lengths),
        targets={name: copied(tensor) for name, tensor in batch.targets.items()},
    )


@dataclass(frozen=True)
class _Unusable:
    """A DataError on its way out of a worker, whose exceptions arrive as traceback texts."""

    message: str


@dataclass(frozen=True)
class _Read:
    """What a worker made of a request; features themselves stay in their files."""

    request: Request
    batch: Batch
    found: list[Found]
    """Of each utterance; empty without a cache."""


@dataclass(frozen=True)
class _Audio:
    """Of one utterance, as it goes into the batch."""

    wav: torch.Tensor
    """Empty where the features are at hand."""
    samples: int
    silent: bool


CHECK_HINT = "; `orchestra data check` finds all such"


@dataclass(frozen=True)
class _Reader(Dataset["_Read | _Unusable"]):
    """Maps a request to its batch."""

    task: Task
    utterances: Sequence[Utterance]
    seed: int
    augmenter: Augmenter | None
    store: FeatureStore | None = None

    def __getitem__(self, request: Request) -> _Read | _Unusable:
        """In a worker: all that takes time."""
        chosen = [self.utterances[index] for index in request.indices]
        try:
            found = [self.store.find(utterance) for utterance in chosen] if self.store else []
            return self._read_with(request, found)
        except DataError as error:
            return _Unusable(str(error))

    def finished(self, answer: _Read | _Unusable) -> Batch:
        """In the training process, whose memory the features are read into (DataError)."""
        if isinstance(answer, _Unusable):
            raise DataError(answer.message)
        if self.store is None:
            return answer.batch
        try:
            found = self.store.found_since(answer.found)
            return replace(answer.batch, stored=self.store.gather(found))
        except (OSError, DataError):  # deleted since the worker saw them
            missing = [replace(each, entry=None) for each in answer.found]
            batch = self._read_with(answer.request, missing).batch
            return replace(batch, stored=self.store.gather(missing))

    def _read_with(self, request: Request, found: list[Found]) -> _Read:
        """Audio of what is not found; labels of all."""
        chosen = [self.utterances[index] for index in request.indices]
        seeds = [keyed(self.seed, "augment", request.epoch, u.id) for u in chosen]
        entries = [each.entry for each in found] or [None] * len(chosen)
        audio = [self._audio(*each) for each in zip(chosen, seeds, entries, strict=True)]
        batch = Batch(
            ids=[utterance.id for utterance in chosen],
            wavs=torch.nn.utils.rnn.pad_sequence([each.wav for each in audio], batch_first=True),
            lengths=torch.tensor([each.samples for each in audio]),
            targets=self.task.collate([self.task.target(utterance) for utterance in chosen]),
            seeds=seeds,
            utterances=chosen,
            silent=[u.id for u, each in zip(chosen, audio, strict=True) if each.silent],
        )
        return _Read(request, batch, found)

    def _audio(self, utterance: Utterance, seed: int, entry: Entry | None) -> _Audio:
        if entry is not None:
            audio = _Audio(torch.zeros(0), entry.samples, entry.silent)
        else:
            read = self._read(utterance)
            wav = self.augmenter.augment(read, seed) if self.augmenter else read
            audio = _Audio(torch.from_numpy(wav), len(wav), is_silent(read))
        if audio.silent and self.task.data.silent == "refuse":
            raise _useless(utterance, 'nothing to hear (data.silent = "refuse")')
        return audio

    def _read(self, utterance: Utterance) -> Waveform:
        try:
            wav = self.task.read(utterance)
        except DataError as error:
            raise DataError(f"{error}{CHECK_HINT}") from None
        if len(wav) == 0:
            raise _useless(utterance, "no samples")
        if not np.isfinite(wav).all():
            raise _useless(utterance, "NaN or infinite samples")
        return wav


def _useless(utterance: Utterance, what: str) -> DataError:
    return DataError(f"utterance {utterance.id}: {what} in {utterance.path}{CHECK_HINT}")


def _start_worker(worker: int) -> None:
    die_with_parent()
    torch.set_num_threads(1)
