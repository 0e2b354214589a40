"""Character CTC speech recognition: records with alignments of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from orchestra.config.schema import DataConfig
from orchestra.tasklib.characters import check_characters
from orchestra.tasklib.ctc import Symbols
from orchestra.tasklib.ctc_task import CtcTask
from orchestra.tasks import Batch, Direction, Prediction
from orchestra.wire.manifest import Utterance

from .config import Config
from .scoring import compare, summarise


class Task(CtcTask):
    """See README.md. Errors raised: DataError for transcripts that can't be used."""

    metrics: Mapping[str, Direction] = {
        "wer": "min",
        "cer": "min",
        "sentence_error_rate": "min",
    }
    label = "transcript (text)"

    def __init__(self, config: Config, data: DataConfig) -> None:
        super().__init__(config, data)
        self.symbols = Symbols(config.characters)

    def tokens(self, utterance: Utterance) -> str | None:
        """Its characters."""
        text = _text(utterance)
        return (
            None if text is None else check_characters(text, self.config.characters, utterance.id)
        )

    def predict(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, hyp}."""
        return [
            {"id": name, "hyp": " ".join("".join(characters).split())}
            for name, characters in self.recognise(head, features, lengths, batch)
        ]

    def refer(self, prediction: Prediction, utterance: Utterance) -> Prediction:
        """With a transcript also {ref, alignment, words, characters} (see scoring)."""
        reference = _text(utterance)
        if reference is None:
            return prediction
        words = " ".join(reference.split())
        hypothesis = prediction["hyp"]
        return {"id": utterance.id, "ref": words, "hyp": hypothesis, **compare(words, hypothesis)}

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """wer, cer, sentence_error_rate in percent, and the counts behind them.

        Empty for a split without transcripts.
        """
        if not any("ref" in record for record in predictions):
            return {}
        return summarise(predictions)


def _text(utterance: Utterance) -> str | None:
    text = utterance.fields.get("text")
    return None if text is None else str(text)
