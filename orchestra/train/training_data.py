"""The training split: planned, with a loader, checked before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

from orchestra.config.schema import unfit_ranks
from orchestra.data.batches import Planner
from orchestra.data.loader import Loader, Request, to_device
from orchestra.tasks import Batch
from orchestra.train.progress import Fingerprint
from orchestra.train.session import Session
from orchestra.wire.errors import UsageError
from orchestra.wire.manifest import manifest_sha256


@dataclass(frozen=True)
class TrainingData:
    """What the loop consumes."""

    planner: Planner
    loader: Loader
    fingerprint: Fingerprint
    manifest_sha256: str | None
    shortest: tuple[int, ...]
    """Indices of the two shortest utterances."""

    def warm_up_batch(self, device: torch.device) -> Batch:
        """A small batch for the throw-away step; two rows, for the sake of batch norms."""
        return to_device(self.loader.read(Request(0, self.shortest)), device)


def load_training_data(session: Session) -> TrainingData:
    """Read the split and plan it.

    Raises:
        NotFoundError, DataError: the split is missing, too small, or an utterance too long.
        UsageError: this number of ranks can't share the micro-batches of a step.
    """
    config, task = session.config, session.task
    virtual_ranks = cast(int, config.batch.micro_batches)
    if problem := unfit_ranks(virtual_ranks, session.ranks.world_size):
        raise UsageError(problem)
    utterances = task.utterances(config.data.train)
    durations = [utterance.duration_s for utterance in utterances]
    planner = Planner(
        durations,
        [utterance.id for utterance in utterances],
        seed=config.seed,
        seconds=config.batch.seconds,
        max_micro_seconds=config.batch.max_micro_seconds,
        micro_batches=virtual_ranks,
    )
    shortest = sorted(range(len(durations)), key=durations.__getitem__)[:2]
    return TrainingData(
        planner,
        Loader(task, utterances, seed=config.seed, workers=config.data.workers),
        Fingerprint.of(config, utterances),
        manifest_sha256(config.data.manifests, config.data.train),
        tuple(shortest),
    )
