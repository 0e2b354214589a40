"""The training split: planned, with a loader, checked before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch

from orchestra.config.schema import unfit_ranks
from orchestra.data.augmenter import Augmenter
from orchestra.data.batches import Planner, tell_too_long
from orchestra.data.feature_store import FeatureStore
from orchestra.data.loader import Loader, Request, to_device
from orchestra.data.stats import measures
from orchestra.tasks import Batch
from orchestra.train.session import Session
from orchestra.wire.errors import UsageError
from orchestra.wire.manifest import Utterance, manifest_sha256


@dataclass(frozen=True)
class TrainingData:
    """What the loop consumes."""

    planner: Planner
    loader: Loader
    longest: Loader
    """Of the same utterances, each as long as augmentation ever makes it."""
    utterances: list[Utterance]
    augmentation: list[Utterance]
    """Noises and impulse responses."""
    manifest_sha256: str | None
    plan: dict[str, float]
    """Steps, micro-batches, padding and fill of the first epoch, for the record."""
    notices: tuple[str, ...]
    """Sentences for the run's records."""
    split: int
    """Parts that each micro-batch is cut into."""

    def worst_batches(self, device: torch.device, store: FeatureStore | None = None) -> list[Batch]:
        """For the warm-up: of the first epoch the micro-batch with the longest utterance, then
        the one of most padded audio.

        Always two and the same in all ranks; where one micro-batch is both, it stands twice,
        because only a second pass meets the gradients of a first one in memory.
        """
        longest, largest = (Request(0, micro) for micro in self.planner.worst(0, self.split))
        return [
            to_device(self.longest.read(request, store), device) for request in (longest, largest)
        ]


def load_training_data(session: Session) -> TrainingData:
    """Read the split and plan it.

    Raises:
        NotFoundError, DataError: the split or what it is augmented with is missing, the split is
            too small, or an utterance too long.
        UsageError: this number of ranks can't share the micro-batches of a step.
    """
    config, task = session.config, session.task
    virtual_ranks = cast(int, config.batch.micro_batches)
    if problem := unfit_ranks(virtual_ranks, session.ranks.world_size):
        raise UsageError(problem)
    utterances = task.utterances(config.data.train)
    augmenter = Augmenter.load(config.augment)
    # What is made of them at most: no micro-batch may pass the cap in any epoch.
    durations = [config.augment.longest_s(utterance.duration_s) for utterance in utterances]
    ids = [utterance.id for utterance in utterances]
    planner = Planner(durations, ids, config.batch, seed=config.seed)
    notices = []
    if planner.too_long:
        cap_s, fate = config.batch.max_micro_seconds, "each has a micro-batch of its own"
        notices.append(tell_too_long(planner.too_long, durations, ids, cap_s, fate))
    if session.split > 1:
        notices.append(
            f"micro-batches are cut in {session.split} after an out-of-memory failure: this run is "
            "not exact"
        )
    load = partial(Loader, task, utterances, seed=config.seed)
    return TrainingData(
        planner,
        load(workers=config.data.workers, augmenter=augmenter),
        load(workers=0, augmenter=augmenter.at_its_longest()),
        utterances,
        [*augmenter.noises, *augmenter.impulses],
        manifest_sha256(config.data.manifests, config.data.train),
        measures(planner, durations),
        tuple(notices),
        session.split,
    )
