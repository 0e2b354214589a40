"""Slot filling by CTC: characters and marks around slots, scored by slot type and value."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from orchestra.tasklib.characters import check_characters
from orchestra.tasklib.ctc import Symbols
from orchestra.tasklib.ctc_task import CtcTask
from orchestra.tasks import Batch, Direction, Prediction
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

from .scoring import summarise
from .slots import Marked, marks, read_marked, restricted, to_text, to_tokens, to_values

log = logging.getLogger("orchestra")


class Task(CtcTask):
    """See README.md. Errors raised: DataError for references that can't be used."""

    metrics: Mapping[str, Direction] = {
        "slot_type_f1": "max",
        "slot_value_cer": "min",
        "slot_value_wer": "min",
        "slot_edit_f1": "max",
    }
    label = "slots (text and slots)"

    def usable(self, utterances: list[Utterance], split: str) -> list[Utterance]:
        """All; says of how many `unknown_character` has characters dropped."""
        if self.config.unknown_character == "drop":
            touched = [u.id for u in utterances if self._marked(u) != self._read(u)]
            if touched:
                log.warning(
                    "split %r: characters that are not among task.characters are dropped from %d "
                    "of %d transcripts: %s",
                    split,
                    len(touched),
                    len(utterances),
                    ", ".join(touched),
                )
        return utterances

    def learn(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """{slots}: the types of slots in the training split.

        Raises:
            DataError: there are none.
        """
        found = [marked for u in utterances if (marked := self._marked(u)) is not None]
        types = sorted({slot.type for marked in found for slot in marked.slots})
        if not types:
            raise DataError(f"split {self.data.train!r} has no {self.label} to learn from")
        return {"slots": types}

    def recall(self, learnt: Mapping[str, Any]) -> None:
        """The characters and the marks of these slots become the head's symbols."""
        if learnt:
            self.symbols = Symbols([*self.config.characters, *marks(learnt["slots"])])

    def tokens(self, utterance: Utterance) -> list[str] | None:
        """Its characters and marks (DataError: it can't be read, or has unknown characters)."""
        marked = self._marked(utterance)
        return None if marked is None else to_tokens(marked)

    def predict(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, hyp, hyp_slots}: what was said, and [type, value] of each slot."""
        return [
            {"id": name, "hyp": to_text(tokens), "hyp_slots": _lists(to_values(tokens))}
            for name, tokens in self.recognise(head, features, lengths, batch)
        ]

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """With a reference also {ref, ref_slots}.

        Raises:
            DataError: it can't be used, or has slots that training had not.
        """
        marked = self._marked(utterance)
        if marked is None:
            return prediction
        self.symbols.encode(to_tokens(marked), utterance.id)
        return {
            **prediction,
            "ref": " ".join(marked.words),
            "ref_slots": _lists(marked.values),
        }

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """See scoring; empty for a split without references."""
        known = [record for record in predictions if "ref_slots" in record]
        return summarise(known) if known else {}

    def _read(self, utterance: Utterance) -> Marked | None:
        return read_marked(utterance.fields, utterance.id)

    def _marked(self, utterance: Utterance) -> Marked | None:
        """The reference with known characters only, by `unknown_character`."""
        marked = self._read(utterance)
        if marked is None:
            return None
        if self.config.unknown_character == "drop":
            return restricted(marked, self.config.characters)
        check_characters(" ".join(marked.words), self.config.characters, utterance.id)
        return marked


def _lists(values: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [list(value) for value in values]
