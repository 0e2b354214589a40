"""Phone recognition by CTC: phones of a lexicon, records with alignments of phones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from orchestra.tasklib.ctc import Symbols
from orchestra.tasklib.ctc_task import CtcTask
from orchestra.tasks import Batch, Direction, Prediction
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

from .lexicon import Lexicon, read_lexicon, without_stress, words_with_ids
from .scoring import compare, summarise

log = logging.getLogger("orchestra")


class Task(CtcTask):
    """See README.md. Errors raised: DataError for references that can't be used."""

    metrics: Mapping[str, Direction] = {"per": "min"}
    label = "phones (phones, or text and task.lexicon)"

    @cached_property
    def lexicon(self) -> Lexicon:
        """Read when the first text is looked up: predicting needs none.

        Raises:
            NotFoundError, DataError: as `read_lexicon`.
        """
        return read_lexicon(self.config.lexicon)

    def usable(self, utterances: list[Utterance], split: str) -> list[Utterance]:
        """By `missing_word`: all, or those whose words are in the lexicon.

        Raises:
            DataError: words are missing and are to be refused, or no utterance would be left; they
                are named.
        """
        missing = {u.id: words for u in utterances if (words := self._missing(u))}
        if not missing:
            return utterances
        if self.config.missing_word == "refuse" or len(missing) == len(utterances):
            raise DataError(self._refusal(missing, split))
        log.warning(
            "split %r: %d of %d utterances are left out, for words that are not in the lexicon: %s",
            split,
            len(missing),
            len(utterances),
            "; ".join(f"{name} ({', '.join(words)})" for name, words in missing.items()),
        )
        return [utterance for utterance in utterances if utterance.id not in missing]

    def learn(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """{phones}: those of the lexicon, or of the training split where there is none.

        Raises:
            DataError: there are none.
        """
        if self.config.lexicon:
            phones = self._stressed(self.lexicon.phones)
        else:
            phones = [phone for u in utterances for phone in self.tokens(u) or ()]
        if not phones:
            raise DataError(
                f"split {self.data.train!r} has no {self.label} to learn from; name a lexicon with "
                "--set task.lexicon='[\"PATH\"]'"
            )
        return {"phones": sorted(set(phones))}

    def recall(self, learnt: Mapping[str, Any]) -> None:
        """The phones become the head's symbols."""
        if learnt:
            self.symbols = Symbols(learnt["phones"])

    def tokens(self, utterance: Utterance) -> list[str] | None:
        """Its phones.

        Raises:
            DataError: it has a text (phones) without a single word (phone); or words are missing.
        """
        said = utterance.fields.get("text" if self.config.lexicon else "phones")
        if said is None:
            return None
        if not isinstance(said, str) or not said.split():
            raise DataError(
                f"utterance {utterance.id}: its reference must be a text that is not empty, not "
                f"{said!r}; correct it, or take the utterance out of the manifest"
            )
        if not self.config.lexicon:
            return self._stressed(said.split())
        if missing := self._missing(utterance):
            raise DataError(
                f"utterance {utterance.id}: {missing[0]!r} is not in the lexicon; add it to a file "
                "of task.lexicon, or leave the utterance out"
            )
        return self._stressed(self.lexicon.pronounce(said))

    def predict(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, hyp}: phones with spaces between."""
        return [
            {"id": name, "hyp": " ".join(phones)}
            for name, phones in self.recognise(head, features, lengths, batch)
        ]

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """With a reference also {ref, alignment, phones} (see scoring); by `missing_word` none.

        Raises:
            DataError: it can't be used, or has phones that training had not.
        """
        if self.config.missing_word == "leave-out" and (missing := self._missing(utterance)):
            log.warning(
                "utterance %s is not scored: not in the lexicon: %s",
                utterance.id,
                ", ".join(missing),
            )
            return prediction
        reference = self.tokens(utterance)
        if reference is None:
            return prediction
        self.symbols.encode(reference, utterance.id)
        hypothesis = prediction["hyp"]
        return {
            "id": utterance.id,
            "ref": " ".join(reference),
            "hyp": hypothesis,
            **compare(reference, hypothesis.split()),
        }

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """per in percent, and the counts behind it; empty for a split without references."""
        known = [record for record in predictions if "ref" in record]
        return summarise(known) if known else {}

    def _missing(self, utterance: Utterance) -> list[str]:
        text = utterance.fields.get("text") if self.config.lexicon else None
        return [] if text is None else self.lexicon.missing(str(text))

    def _stressed(self, phones: Sequence[str]) -> list[str]:
        return without_stress(phones) if self.config.stress == "strip" else list(phones)

    def _refusal(self, missing: Mapping[str, Sequence[str]], split: str) -> str:
        return (
            "add a file of `WORD PHONE PHONE ...` lines to task.lexicon, or leave utterances out "
            f"with --set task.missing_word=leave-out: {len(missing)} of split {split!r} have words "
            f"that are not in the lexicon: {words_with_ids(missing)}"
        )
