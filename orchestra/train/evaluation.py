"""Predicts a split on all ranks and scores it once, on rank 0.

Batches are planned once, whatever the number of ranks, and dealt out; every rank commits one
file of predictions; rank 0 merges them by utterance id. No collective: ranks wait for files, so
that no timeout of one limits how long an evaluation takes.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from orchestra.config.schema import RunConfig
from orchestra.data.batches import deal, draw_subset, plan_evaluation
from orchestra.data.feature_store import FeatureStore
from orchestra.data.loader import Loader, Request, to_device
from orchestra.tasks import Batch, Prediction, Task
from orchestra.train.distributed import Ranks
from orchestra.train.memory import enough_memory, evaluation_remedy
from orchestra.train.model import SpeechModel
from orchestra.train.precision import autocast
from orchestra.train.rendezvous import Exchange
from orchestra.train.seeds import reseed
from orchestra.wire.errors import DataError
from orchestra.wire.files import json_bytes, read_json
from orchestra.wire.heartbeat import LONG_WRITE_S, SCORING_S, Phase
from orchestra.wire.manifest import Utterance, manifest_sha256

EVALUATION_EPOCH = 0
_OUTCOME = "outcome.json"
_LOOKED_AT = 8
"""Utterances that tell whether a split has labels."""


@dataclass(frozen=True)
class Split:
    """A split, its batches planned."""

    name: str
    utterances: list[Utterance]
    batches: list[tuple[int, ...]]
    manifest_sha256: str | None
    drawn_from: int | None = None
    """Utterances of the whole split, where these are a part of it."""

    @property
    def audio_s(self) -> float:
        return sum(utterance.duration_s for utterance in self.utterances)


@dataclass(frozen=True)
class Evaluated:
    """What every rank knows at the end; the predictions lie in `folder`'s predictions.jsonl."""

    metrics: dict[str, float]
    elapsed_s: float
    """From the call to the score, waiting for other ranks included."""
    seconds_per_utterance: float
    """Seconds that the ranks took to read and predict, summed over them, per utterance."""
    real_time_factor: float
    """Seconds that the ranks took to predict alone (model and decoding, no reading), summed over
    them, per second of audio. Neither depends on the number of ranks, but for their contention."""
    silent: list[str]
    """Ids of the utterances in which there is nothing to hear, sorted."""

    @property
    def speed(self) -> dict[str, float]:
        """Seconds per utterance and real-time factor by name, for records."""
        return {
            "seconds_per_utterance": self.seconds_per_utterance,
            "real_time_factor": self.real_time_factor,
        }


@dataclass(frozen=True)
class Share:
    """What one rank found."""

    predictions: list[Prediction]
    """In the order of its batches."""
    elapsed_s: float
    """Reading and predicting."""
    predicting_s: float
    silent: list[str]

    def to_bytes(self) -> bytes:
        """A line of what is no prediction, then the predictions."""
        found = {key: value for key, value in vars(self).items() if key != "predictions"}
        return to_lines([found, *self.predictions])

    @classmethod
    def read(cls, path: Path) -> Share:
        """From a file that holds the inverse of `to_bytes`."""
        found, *predictions = read_lines(path)
        return cls(predictions, **found)


def load_split(task: Task, name: str, config: RunConfig) -> Split:
    """Read and plan a split (NotFoundError, DataError).

    An utterance longer than batch.eval_seconds makes a batch of its own: none is left out.
    """
    utterances = task.utterances(name)
    if not utterances:
        raise DataError(f"split {name!r} has no utterances")
    sha256 = manifest_sha256(config.data.manifests, name)
    return planned(Split(name, utterances, [], sha256), config)


def planned(split: Split, config: RunConfig) -> Split:
    """The split with its batches."""
    budget_s = config.batch.eval_seconds or config.batch.max_micro_seconds
    durations = [utterance.duration_s for utterance in split.utterances]
    return replace(split, batches=plan_evaluation(durations, budget_s))


def require_labels(task: Task, split: Split) -> None:
    """Refuse, before any forward pass, to validate on a split that can give no metric.

    Tasks without labels of their own (`Task.target` as it is) score without any.

    Raises:
        DataError: the first utterances have none.
    """
    if type(task).target is Task.target:
        return
    first = split.utterances[:_LOOKED_AT]
    if not task.collate([task.target(utterance) for utterance in first]):
        raise DataError(
            f"split {split.name!r} has no labels (utterance {first[0].id} has none), so it can't "
            "be validated on: name a split that has them as data.valid"
        )


def drawn(split: Split, config: RunConfig) -> Split:
    """The part of the validation split that is looked at while training; drawn by the seed."""
    wanted = config.data.valid_utterances
    if wanted is None or wanted >= len(split.utterances):
        return split
    chosen = draw_subset(len(split.utterances), wanted, config.seed)
    part = [split.utterances[number] for number in chosen]
    return planned(replace(split, utterances=part, drawn_from=len(split.utterances)), config)


class Evaluator:
    """Evaluates splits with the weights that the model holds at the time.

    Args:
        beat: called by every rank all the time with its phase and what it promises.
        stop: asked by rank 0 between batches; the others learn it from rank 0.
        features: the cache of the upstream's features, if there is one.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        model: SpeechModel,
        ranks: Ranks,
        beat: Callable[[Phase, float], None],
        stop: Callable[[], bool],
        features: FeatureStore | None = None,
    ) -> None:
        self._config = config
        self._task = task
        self._model = model
        self._ranks = ranks
        self._beat = beat
        self._stop = stop
        self._features = features

    def evaluate(self, split: Split, files: Exchange) -> Evaluated | None:
        """Evaluate `split` on all ranks; None on all ranks if rank 0 was asked to stop.

        Args:
            files: empty; among them are predictions.jsonl afterwards.

        Raises:
            DataError: an utterance has no prediction or two, or its audio can't be read.
            OutOfMemoryError: a batch does not fit into memory.
            DiskFullError, OSError: there is no room for what was found.
        """
        started = time.monotonic()
        self._tick()
        try:
            share = self._predict_share(split, files)
            if self._ranks.is_first:
                evaluated = self._score(split, files, share, started)
                # The others go on as soon as they find it; this rank may not be through yet.
                self._beat(Phase.CHECKPOINT, LONG_WRITE_S)
                files.write(_OUTCOME, json_bytes({"stopped": False, **asdict(evaluated)}))
                return evaluated
            files.write(_share(self._ranks.rank), share.to_bytes())
            outcome = files.wait_for(_OUTCOME, self._ranks.peers[0], self._tick)
        except _StoppedError:
            if self._ranks.is_first:
                files.write(_OUTCOME, json_bytes({"stopped": True}))
            return None
        document = read_json(outcome)
        return None if document.pop("stopped") else Evaluated(**document)

    def _predict_share(self, split: Split, files: Exchange) -> Share:
        """This rank's predictions."""
        started = time.monotonic()
        durations = [utterance.duration_s for utterance in split.utterances]
        numbers = deal(split.batches, durations, self._ranks.world_size)[self._ranks.rank]
        loader = Loader(
            self._task, split.utterances, seed=self._config.seed, workers=self._config.data.workers
        )
        requests = [Request(EVALUATION_EPOCH, split.batches[number]) for number in numbers]
        predictions: list[Prediction] = []
        silent: list[str] = []
        predicting_s = 0.0
        remedy = evaluation_remedy(self._config)
        self._model.eval()
        try:
            with torch.no_grad(), autocast(self._config.train, self._ranks.device):
                batches = loader.batches(requests, self._features)
                for number, batch in zip(numbers, batches, strict=True):
                    self._check_stop(files)
                    reseed(self._config.seed, "evaluate", split.name, number)
                    given = time.monotonic()
                    # Records are Python values: once they are there, so is the device's work.
                    with enough_memory("the prediction", batch, remedy):
                        found = self._model.predict(to_device(batch, self._ranks.device))
                    predicting_s += time.monotonic() - given
                    predictions += referred(self._task, found, batch)
                    silent += batch.silent
        finally:
            self._model.train()
        return Share(predictions, time.monotonic() - started, predicting_s, silent)

    def _score(self, split: Split, files: Exchange, own: Share, started: float) -> Evaluated:
        """Rank 0: wait for the others, merge, score."""
        paths = [
            files.wait_for(_share(peer.rank), peer, lambda: self._check_stop(files))
            for peer in self._ranks.peers[1:]
        ]
        self._beat(Phase.EVALUATION, SCORING_S)
        shares = [own, *(Share.read(path) for path in paths)]
        predictions = merge(
            (record for share in shares for record in share.predictions), split.utterances
        )
        metrics = self._task.score(predictions)
        files.write("predictions.jsonl", to_lines(predictions))
        for path in paths:
            path.unlink()
        return Evaluated(
            metrics,
            elapsed_s=time.monotonic() - started,
            seconds_per_utterance=sum(share.elapsed_s for share in shares) / len(predictions),
            real_time_factor=sum(share.predicting_s for share in shares) / split.audio_s,
            silent=sorted(name for share in shares for name in share.silent),
        )

    def _tick(self) -> None:
        self._beat(Phase.EVALUATION, 0.0)

    def _check_stop(self, files: Exchange) -> None:
        """Rank 0 decides; the others find its decision where the outcome would be."""
        self._tick()
        if self._stop() or files.find(_OUTCOME):
            raise _StoppedError


class _StoppedError(Exception):
    """Rank 0 was asked to stop in the middle of an evaluation."""


def merge(records: Iterable[Prediction], utterances: Sequence[Utterance]) -> list[Prediction]:
    """All records ordered by id, exactly one for each utterance (else DataError names ids)."""
    by_id = sorted(records, key=lambda record: str(record["id"]))
    counts = Counter(record["id"] for record in by_id)
    wanted = {utterance.id for utterance in utterances}
    complaints = {
        "have no prediction": sorted(wanted - counts.keys()),
        "were predicted more than once": sorted(i for i, n in counts.items() if n > 1),
        "are not in the split": sorted(counts.keys() - wanted),
    }
    for complaint, ids in complaints.items():
        if ids:
            more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
            raise DataError(f"utterances {', '.join(ids[:3])}{more} {complaint}")
    return by_id


def referred(task: Task, predictions: Iterable[Prediction], batch: Batch) -> list[Prediction]:
    """The predictions with their references (DataError: an id is not the batch's)."""
    utterances = {utterance.id: utterance for utterance in batch.utterances}
    found = []
    for prediction in predictions:
        utterance = utterances.get(prediction["id"])
        if utterance is None:
            raise DataError(f"utterances {prediction['id']} are not in the split")
        found.append(task.refer(prediction, utterance))
    return found


def to_lines(records: Iterable[Prediction]) -> bytes:
    """One JSON object per line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def read_lines(path: Path) -> list[Prediction]:
    """The inverse of `to_lines`."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _share(rank: int) -> str:
    return f"predictions.rank{rank}.jsonl"
