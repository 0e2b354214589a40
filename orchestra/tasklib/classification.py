"""Classification of whole utterances: classes from the training split, cross entropy, accuracy.

A label has one slot (`label`), or several of which all must be right. Classes of a slot are the
distinct texts that the training split has there, in the order of their code points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import orchestra.tasks
from orchestra.config.schema import DataConfig
from orchestra.tasklib.classification_config import ClassificationConfig
from orchestra.tasklib.classification_heads import build_head
from orchestra.tasklib.classification_scores import accuracy, macro_f1
from orchestra.tasks import Batch, Direction, LossTerms, Outputs, Prediction
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

UNSEEN = -1
"""Number of a class that the training split does not have."""

_DIGITS = 3
"""Decimals of probabilities: the last bits of a sum follow the padding."""


class Classification(orchestra.tasks.Task):
    """Base of a task; a single slot named `label` unless `slots` says otherwise.

    Errors raised: DataError for labels that can't be used; see config `unseen`.
    """

    metrics: Mapping[str, Direction] = {"accuracy": "max", "macro_f1": "max"}
    slots: ClassVar[tuple[str, ...]] = ("label",)

    def __init__(self, config: ClassificationConfig, data: DataConfig) -> None:
        super().__init__(config, data)
        if config.unseen == "count":
            self.metrics = {**self.metrics, "unseen": "min"}
        self.counts: dict[str, dict[str, int]] = {}
        """By slot: training utterances of each class, in the order of the classes' numbers."""
        self._numbers: dict[str, dict[str, int]] = {}

    def utterances(self, split: str) -> list[Utterance]:
        """All of a split, which has labels for every utterance or for none.

        Raises:
            NotFoundError, DataError: also for labels that can't be used: now, not at the end.
        """
        utterances = super().utterances(split)
        labelled = [self.label(utterance) is not None for utterance in utterances]
        if any(labelled) and not all(labelled):
            missing = utterances[labelled.index(False)].id
            raise DataError(
                f"split {split!r}: {labelled.count(False)} of {len(utterances)} utterances have no "
                f"{' or no '.join(self.slots)} ({missing} is the first); add theirs, or take them "
                "from all to have them predicted only"
            )
        if self.config.unseen == "refuse" or split == self.data.train:
            for utterance in utterances:
                self._refuse_unseen(utterance, f"split {split!r}, ")
        return utterances

    def learn(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """{"classes": {slot: {class: training utterances}}}.

        Raises:
            DataError: there are no labels, or but one.
        """
        labels = [self.label(utterance) for utterance in utterances]
        found = [label for label in labels if label is not None]
        split = self.data.train
        if len(found) < len(labels) or not found:
            raise DataError(
                f"split {split!r} has no labels to train on: its manifest has no "
                f"{' or no '.join(self.slots)}; prepare the corpus again"
            )
        counts = {
            slot: dict(sorted(Counter(label[place] for label in found).items()))
            for place, slot in enumerate(self.slots)
        }
        if all(len(classes) < 2 for classes in counts.values()):
            raise DataError(
                f"split {split!r} has one class alone ({', '.join(found[0])}): there is nothing "
                "to tell apart; check its manifest"
            )
        return {"classes": counts}

    def recall(self, learnt: Mapping[str, Any]) -> None:
        self.counts = {slot: dict(counts) for slot, counts in learnt.get("classes", {}).items()}
        self._numbers = {
            slot: {name: number for number, name in enumerate(counts)}
            for slot, counts in self.counts.items()
        }

    def label(self, utterance: Utterance) -> tuple[str, ...] | None:
        """The class of each slot; None where a slot is missing (DataError: one is no text)."""
        values = [utterance.fields.get(slot) for slot in self.slots]
        if None in values:
            return None
        for slot, value in zip(self.slots, values, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise DataError(
                    f"utterance {utterance.id}: {slot} must be a text that is not empty, "
                    f"not {value!r}"
                )
        return tuple(map(str, values))

    def target(self, utterance: Utterance) -> tuple[int, ...] | None:
        """The number of the class in each slot, UNSEEN if it has none; None without a label."""
        label = self.label(utterance)
        if label is None:
            return None
        return tuple(
            self._numbers[slot].get(name, UNSEEN)
            for slot, name in zip(self.slots, label, strict=True)
        )

    def collate(self, targets: Sequence[Any]) -> dict[str, Tensor]:
        """labels (batch, slots) int64; empty where one is missing."""
        return {} if None in targets else {"labels": torch.tensor(targets)}

    def build_head(self, dim: int, stride: int) -> nn.Module:
        """Config `head`; its logits are those of all slots, one after another."""
        if not self.counts:
            raise DataError("no classes are known: the run has no learnt.json; train it anew")
        return build_head(self.config.head, dim, sum(self._sizes()))

    def weights(self, labels: Tensor) -> Tensor:
        """(batch,) what each utterance counts in the loss, > 0; labels (batch, slots)."""
        return torch.ones(len(labels), device=labels.device)

    def loss(self, head: nn.Module, features: Tensor, lengths: Tensor, batch: Batch) -> LossTerms:
        """Cross entropy, summed over slots and utterances; an utterance counts its weight.

        Raises:
            DataError: there are no labels.
        """
        if not batch.targets:
            raise DataError(f"utterance {batch.ids[0]} has no label to train on")
        labels = batch.targets["labels"]
        weights = self.weights(labels)
        scores, sizes = head(features, lengths).float(), self._sizes()
        by_slot = scores.split(sizes, dim=1)
        losses = [
            cross_entropy(logits, labels[:, place], reduction="none")
            for place, logits in enumerate(by_slot)
        ]
        guesses = torch.stack([logits.argmax(1) for logits in by_slot], dim=1)
        right = (guesses == labels).all(1)
        return LossTerms(
            sum=(torch.stack(losses).sum(0) * weights).sum(),
            weight=weights.sum(),
            scalars={"train_accuracy": 100.0 * (right * weights).sum()},
            outputs=Outputs(scores, weights, tuple(sizes)),
        )

    def predict(
        self, head: nn.Module, features: Tensor, lengths: Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, predicted, probability}; with several slots the latter two are objects by slot."""
        by_slot = head(features, lengths).float().split(self._sizes(), dim=1)
        best = [logits.softmax(1).max(1) for logits in by_slot]
        names = [list(self.counts[slot]) for slot in self.slots]
        predicted = zip(
            *(
                [known[number] for number in top.indices.tolist()]
                for known, top in zip(names, best, strict=True)
            ),
            strict=True,
        )
        probabilities = zip(*(top.values.tolist() for top in best), strict=True)
        return [
            {
                "id": utterance_id,
                "predicted": self._by_slot(classes),
                "probability": self._by_slot([round(share, _DIGITS) for share in shares]),
            }
            for utterance_id, classes, shares in zip(
                batch.ids, predicted, probabilities, strict=True
            )
        ]

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """With a label also {label}, shaped as `predicted`.

        Raises:
            DataError: the label is unseen and such are to be refused.
        """
        label = self.label(utterance)
        if label is None:
            return prediction
        if self.config.unseen == "refuse":
            self._refuse_unseen(utterance)
        return {**prediction, "label": self._by_slot(label)}

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """accuracy (all slots right) and macro_f1 in percent; with several slots instead of the
        latter the accuracy of each. With `unseen = "count"` also how many have an unseen label.

        Empty without labels.
        """
        known = [record for record in predictions if "label" in record]
        if not known:
            return {}
        labels = [record["label"] for record in known]
        predicted = [record["predicted"] for record in known]
        metrics = {"accuracy": accuracy(labels, predicted)}
        if len(self.slots) == 1:
            metrics["macro_f1"] = macro_f1(labels, predicted)
        else:
            for slot in self.slots:
                metrics[f"{slot}_accuracy"] = accuracy(
                    [label[slot] for label in labels], [guess[slot] for guess in predicted]
                )
        if self.config.unseen == "count":
            metrics["unseen"] = float(sum(map(self._is_unseen, labels)))
        return metrics

    def _sizes(self) -> list[int]:
        """How many classes each slot has."""
        return [len(self.counts[slot]) for slot in self.slots]

    def _by_slot(self, values: Sequence[Any]) -> Any:
        """One value per slot as records have them."""
        if len(self.slots) == 1:
            return values[0]
        return dict(zip(self.slots, values, strict=True))

    def _is_unseen(self, label: Any) -> bool:
        names = [label] if len(self.slots) == 1 else [label[slot] for slot in self.slots]
        pairs = zip(self.slots, names, strict=True)
        return any(name not in self._numbers[slot] for slot, name in pairs)

    def _refuse_unseen(self, utterance: Utterance, where: str = "") -> None:
        names = self.label(utterance) if self.counts else None
        for slot, name in zip(self.slots, names, strict=True) if names else ():
            if name not in self._numbers[slot]:
                raise DataError(
                    f"{where}utterance {utterance.id}: the training split has no {slot} {name!r}; "
                    'correct it or leave it out, or set task.unseen="count" to have such '
                    "utterances counted as wrong"
                )
