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
from orchestra.data.keyed import keyed
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

    def batches(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """One batch per request, on the CPU.

        Raises:
            DataError: a recording or label can't be used; the message names its id.
        """
        # The generator is the loader's own: the global one must not move when iteration starts.
        loader = DataLoader(
            self._reader,
            batch_size=None,
            sampler=requests,
            num_workers=self._workers,
            prefetch_factor=PREFETCH if self._workers else None,
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if self._workers else None,
            generator=torch.Generator(),
        )
        for answer in loader:
            yield _usable(answer)

    def read(self, request: Request) -> Batch:
        """One batch, read in this process (DataError as `batches`)."""
        return _usable(self._reader[request])


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    if device.type == "cpu":
        return batch

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        # Only from pinned memory does a copy run beside the computation.
        return tensor.pin_memory().to(device, non_blocking=True)

    return replace(
        batch,
        wavs=copied(batch.wavs),
        lengths=copied(batch.lengths),
        targets={name: copied(tensor) for name, tensor in batch.targets.items()},
    )


@dataclass(frozen=True)
class _Unusable:
    """A DataError on its way out of a worker, whose exceptions arrive as traceback texts."""

    message: str


def _usable(answer: Batch | _Unusable) -> Batch:
    if isinstance(answer, _Unusable):
        raise DataError(answer.message)
    return answer


CHECK_HINT = "; `orchestra data check` finds all such"


class _Reader(Dataset["Batch | _Unusable"]):
    """Maps a request to its batch."""

    def __init__(
        self,
        task: Task,
        utterances: Sequence[Utterance],
        seed: int,
        augmenter: Augmenter | None,
    ) -> None:
        self._task = task
        self._utterances = utterances
        self._seed = seed
        self._augmenter = augmenter

    def __getitem__(self, request: Request) -> Batch | _Unusable:
        chosen = [self._utterances[index] for index in request.indices]
        seeds = [keyed(self._seed, "augment", request.epoch, u.id) for u in chosen]
        try:
            read = [self._read(utterance) for utterance in chosen]
            targets = [self._task.target(utterance) for utterance in chosen]
            wavs = [self._augmented(wav, seed) for wav, seed in zip(read, seeds, strict=True)]
        except DataError as error:
            return _Unusable(str(error))
        return Batch(
            ids=[utterance.id for utterance in chosen],
            wavs=torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True),
            lengths=torch.tensor([len(wav) for wav in wavs]),
            targets=self._task.collate(targets),
            seeds=seeds,
            utterances=chosen,
            silent=[u.id for u, wav in zip(chosen, read, strict=True) if is_silent(wav)],
        )

    def _read(self, utterance: Utterance) -> Waveform:
        try:
            wav = self._task.read(utterance)
        except DataError as error:
            raise DataError(f"{error}{CHECK_HINT}") from None
        problem = None
        if len(wav) == 0:
            problem = "no samples in"
        elif not np.isfinite(wav).all():
            problem = "NaN or infinite samples in"
        elif self._task.data.silent == "refuse" and is_silent(wav):
            problem = 'nothing to hear (data.silent = "refuse") in'
        if problem:
            raise DataError(f"utterance {utterance.id}: {problem} {utterance.path}{CHECK_HINT}")
        return wav

    def _augmented(self, wav: Waveform, seed: int) -> torch.Tensor:
        return torch.from_numpy(self._augmenter.augment(wav, seed) if self._augmenter else wav)


def _start_worker(worker: int) -> None:
    die_with_parent()
    torch.set_num_threads(1)
