"""`python -m tests.benchmarks.bare_loop JOB STEPS FROM OUT`: the training of a run in plain torch.

What a researcher would write: DataLoader, DDP, forward, backward, clipping, AdamW. The model, the
task and the planned batches are orchestra's, nothing else is. Writes steps per second to OUT,
without the first FROM steps.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from orchestra.config.frozen import read_frozen
from orchestra.data.batches import Planner, Position
from orchestra.tasks import Batch, Task
from orchestra.train.model import build_model
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE
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


def main(job: Job, steps: int, first: int, out: Path) -> None:
    config, info = read_frozen(job.config, Path(os.environ[CODE]))
    task = info.task_class()(config.task, config.data)
    torch.set_num_threads(config.launch.threads)
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    model = build_model(config, task)
    if ranks > 1:
        dist.init_process_group("gloo")
        model = DistributedDataParallel(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.optim.lr)

    utterances = task.utterances(config.data.train)
    durations, ids = [u.duration_s for u in utterances], [u.id for u in utterances]
    planner = Planner(durations, ids, config.batch, seed=config.seed)
    planned = list(islice(planner.steps(Position()), steps))
    shares = [step.micro_batches[rank::ranks] for step in planned]
    micro_batches = [micro for share in shares for micro in share]
    loader = iter(
        DataLoader(
            Planned(task, utterances, micro_batches),
            batch_size=None,
            num_workers=config.data.workers,
        )
    )
    started = time.perf_counter()
    for number, share in enumerate(shares):
        if number == first:
            started = time.perf_counter()
        for micro in range(len(share)):
            batch = next(loader)
            last = micro + 1 == len(share)
            with nullcontext() if last or ranks == 1 else model.no_sync():
                terms = model(batch)
                (terms.sum / terms.weight / len(share)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
    if rank == 0:
        out.write_text(str((steps - first) / (time.perf_counter() - started)))
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Job("train", Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
