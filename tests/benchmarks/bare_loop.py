"""The training of a run in plain torch, as a researcher would write it.

DataLoader, DDP, forward, backward, clipping, AdamW. The model, the task, the planned batches, the
options of DDP and the number of threads are orchestra's; reading the batches and the loop are not.
Left out is what orchestra does beside: the exact weights of uneven batches, the ranks' agreement on
each step, seeds, skipping what is not finite, statistics, heartbeats, records.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from orchestra.config.frozen import read_frozen
from orchestra.data.batches import Planner, Position
from orchestra.tasks import Batch, Task
from orchestra.train.distributed import Ranks
from orchestra.train.model import build_model
from orchestra.train.step import wrap
from orchestra.wire.folders import Job
from orchestra.wire.manifest import Utterance


class Planned(Dataset[Batch]):
    """This rank's micro-batches, one after the other."""

    def __init__(
        self, task: Task, utterances: list[Utterance], micro_batches: list[tuple[int, ...]]
    ) -> None:
        self._task = task
        self._utterances = utterances
        self._micro_batches = micro_batches

    def __len__(self) -> int:
        return len(self._micro_batches)

    def __getitem__(self, number: int) -> Batch:
        chosen = [self._utterances[index] for index in self._micro_batches[number]]
        wavs = [torch.from_numpy(self._task.read(utterance)) for utterance in chosen]
        return Batch(
            ids=[utterance.id for utterance in chosen],
            wavs=torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True),
            lengths=torch.tensor([len(wav) for wav in wavs]),
            targets=self._task.collate([self._task.target(utterance) for utterance in chosen]),
            seeds=[0] * len(chosen),
            utterances=chosen,
        )


def bare_steps(job: Job, code: Path, steps: int) -> Iterator[None]:
    """Takes a step whenever it is asked for the next; in this process, with its other ranks."""
    config, info = read_frozen(job.config, code)
    task = info.task_class()(config.task, config.data)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    model: Any = wrap(build_model(config, task), Ranks(rank, ranks, torch.device("cpu")))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.optim.lr)

    utterances = task.utterances(config.data.train)
    durations, ids = [u.duration_s for u in utterances], [u.id for u in utterances]
    planner = Planner(durations, ids, config.batch, seed=config.seed)
    planned = list(islice(planner.steps(Position()), steps))
    shares = [step.micro_batches[rank::ranks] for step in planned]
    micro_batches = [micro for share in shares for micro in share]
    read = Planned(task, utterances, micro_batches)
    loader = iter(DataLoader(read, batch_size=None, num_workers=config.data.workers))
    for share in shares:
        for micro in range(len(share)):
            batch = next(loader)
            last = micro + 1 == len(share)
            with nullcontext() if last or ranks == 1 else model.no_sync():
                terms = model(batch)
                (terms.sum / terms.weight / len(share)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        yield
