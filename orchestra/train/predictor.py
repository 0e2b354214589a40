"""A trained model that answers: utterances in, records out, in one process and without a run.

The same reading, padding, precision and weights as an evaluation, so that the same audio gets the
same answer. Writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orchestra.config.frozen import read_frozen
from orchestra.config.schema import FileConfig, RunConfig
from orchestra.data.batches import plan_evaluation
from orchestra.data.loader import CHECK_HINT, Loader, Request, to_device
from orchestra.data.recordings import without_labels
from orchestra.tasks import Batch, Prediction, Task
from orchestra.train import learnt
from orchestra.train.evaluation import EVALUATION_EPOCH
from orchestra.train.memory import enough_memory
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.precision import autocast, set_determinism
from orchestra.train.seeds import reseed
from orchestra.train.weights import UPSTREAM, read_trained
from orchestra.wire import weights
from orchestra.wire.errors import DataError, OutOfMemoryError
from orchestra.wire.manifest import Utterance


@dataclass(frozen=True)
class Answer:
    """What came of one utterance: a prediction, or why there is none."""

    utterance: Utterance
    prediction: Prediction | None
    error: str = ""
    """One sentence; names the utterance."""
    is_silent: bool = False


class Predictor:
    """Made once per process.

    Args:
        seconds: audio (padding included) in one forward pass.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        model: SpeechModel,
        device: torch.device,
        seconds: float,
    ) -> None:
        self._config = config
        self._task = task
        self._model = model.to(device).eval()
        self._device = device
        self._seconds = seconds

    def answers(self, utterances: Sequence[Utterance]) -> Iterator[Answer]:
        """One answer per utterance, in their order, once all of them are there.

        Labels are not looked at: they need not be ones that the task knows.
        """
        found: dict[int, Answer] = {}
        plan = plan_evaluation([each.duration_s for each in utterances], self._seconds)
        for indices in plan:
            chosen = [utterances[index] for index in indices]
            found.update(zip(indices, self._of_batch(chosen), strict=True))
        yield from (found[index] for index in range(len(utterances)))

    def _of_batch(self, utterances: list[Utterance]) -> list[Answer]:
        """The answers to one batch.

        If an utterance can't be used or they don't fit into memory together, one by one.
        """
        try:
            batch = self._read([without_labels(utterance) for utterance in utterances])
            records = self._predict(batch)
            return [
                _answer(utterance, record, is_silent=utterance.id in batch.silent)
                for utterance, record in zip(utterances, records, strict=True)
            ]
        except (DataError, OutOfMemoryError) as error:
            if len(utterances) == 1:
                return [Answer(utterances[0], None, str(error).removesuffix(CHECK_HINT))]
        return [answer for each in utterances for answer in self._of_batch([each])]

    def _read(self, utterances: list[Utterance]) -> Batch:
        seed = self._config.seed
        loader = Loader(self._task, utterances, seed=seed, workers=0)
        return loader.read(Request(EVALUATION_EPOCH, tuple(range(len(utterances)))))

    def _predict(self, batch: Batch) -> list[Prediction]:
        """One record per utterance of the batch, in its order (DataError)."""
        reseed(self._config.seed, "predict")
        with (
            torch.no_grad(),
            autocast(self._config.train, self._device),
            enough_memory("the prediction", batch, "lower --batch-seconds"),
        ):
            records = self._model.predict(to_device(batch, self._device))
        by_id = {record["id"]: record for record in records}
        if len(records) != len(batch.ids) or by_id.keys() != set(batch.ids):
            raise DataError(
                f"utterance {batch.ids[0]}: the task's predict gave {len(records)} records for a "
                f"batch of {len(batch.ids)} (`orchestra task check` tells more)"
            )
        return [by_id[name] for name in batch.ids]


def load_predictor(
    config_path: Path, code: Path, folder: Path, device: torch.device, seconds: float | None
) -> Predictor:
    """The model of a frozen config with the weights of a checkpoint or an export folder.

    Args:
        seconds: see `Predictor`; None is what the run's evaluations take.

    Raises:
        BadCheckpointError: the weights are damaged.
        UsageError, NotFoundError: they don't fit, or the config can't be used by this code.
    """
    config, info = read_frozen(config_path, code)
    set_determinism(config.train)
    torch.set_num_threads(config.launch.threads)
    weights.verify(folder)
    task = info.task_class()(config.task, config.data)
    task.recall(learnt.of_weights(folder) or {})
    model = build_model(_with_own_upstream(config, folder), task)
    model.load_saved_state(read_trained(folder, model))
    if seconds is None:
        seconds = config.batch.eval_seconds or config.batch.max_micro_seconds
    return Predictor(config, task, model, device, seconds)


def _with_own_upstream(config: RunConfig, folder: Path) -> RunConfig:
    """An export holds the whole of an upstream that was tuned: where it came from may be gone."""
    chosen, own = config.upstream, folder / UPSTREAM
    if not (weights.is_export(folder) and own.is_dir()):
        return config
    if isinstance(chosen, FileConfig):
        update: dict[str, Any] = {"source": str(own / Path(chosen.source).name)}
    else:
        update = {"source": str(own), "revision": None, "parts": None}
    return config.model_copy(update={"upstream": chosen.model_copy(update=update)})


def _answer(utterance: Utterance, record: Prediction, *, is_silent: bool) -> Answer:
    """DataError: the record holds NaN, or what JSON has no word for."""
    try:
        json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"utterance {utterance.id}: its prediction can't be written as JSON ({error})"
        ) from error
    return Answer(utterance, record, is_silent=is_silent)
