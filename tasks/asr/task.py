"""Character CTC speech recognition: loss, greedy decoding, records with alignments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import ctc_loss, log_softmax
from torch.nn.utils.rnn import pad_sequence

import orchestra.tasks
from orchestra.config.schema import DataConfig
from orchestra.data import SAMPLE_RATE
from orchestra.tasks import Batch, Direction, LossTerms, Outputs, Prediction
from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

from .config import Config
from .head import build_head, frame_samples
from .scoring import compare, summarise
from .spec_augment import spec_augment
from .symbols import BLANK, Symbols, frames_needed, frames_of_text


class Task(orchestra.tasks.Task):
    """See README.md. Errors raised: DataError for transcripts that can't be used."""

    metrics: Mapping[str, Direction] = {
        "wer": "min",
        "cer": "min",
        "sentence_error_rate": "min",
    }

    def __init__(self, config: Config, data: DataConfig) -> None:
        super().__init__(config, data)
        self.symbols = Symbols(config.characters)
        self._longest_frames: dict[str, float] = {}
        """By id: the samples of a frame from which on a training transcript has too few frames."""

    def utterances(self, split: str) -> list[Utterance]:
        """All of a split, which has a transcript for every utterance or for none.

        Raises:
            NotFoundError, DataError: also for transcripts that can't be used: now, not at the end.
        """
        utterances = super().utterances(split)
        silent = [utterance.id for utterance in utterances if _text(utterance) is None]
        if silent and len(silent) < len(utterances):
            raise DataError(
                f"split {split!r}: {_some(silent)} of {len(utterances)} utterances have no "
                "transcript (text); add theirs, or take it from all to have them predicted only"
            )
        for utterance in utterances:
            words = self.symbols.check(_text(utterance) or "", utterance.id)
            if split == self.data.train:
                samples = utterance.duration_s * SAMPLE_RATE
                self._longest_frames[utterance.id] = samples / max(frames_of_text(words) - 1, 1)
        return utterances

    def target(self, utterance: Utterance) -> torch.Tensor | None:
        """(characters,) int64, or None without a transcript."""
        text = _text(utterance)
        return None if text is None else self.symbols.encode(text, utterance.id)

    def collate(self, targets: Sequence[Any]) -> dict[str, torch.Tensor]:
        """symbols (batch, characters), lengths (batch,); empty if a transcript is missing."""
        if any(target is None for target in targets):
            return {}
        return {
            "symbols": pad_sequence(list(targets), batch_first=True, padding_value=BLANK),
            "lengths": torch.tensor([len(target) for target in targets]),
        }

    def build_head(self, dim: int, stride: int) -> torch.nn.Module:
        """Config `head`, returning logits and frame lengths.

        Raises:
            UsageError: its frames are shorter than the upstream's.
            DataError: they are too long for most transcripts of the training split, if it was read.
        """
        head = build_head(self.config.head, dim, stride, len(self.symbols))
        self._require_alignable(frame_samples(self.config.head, stride))
        return head

    def loss(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        """CTC loss per character, summed over utterances (weight: utterances).

        The mean is that of torch's CTCLoss(reduction="mean"). An utterance with fewer frames than
        its transcript needs has no alignment: it adds 0, and to the scalar `unalignable`. Outputs
        are a distribution over symbols at each frame; an utterance's together weigh 1.

        Raises:
            DataError: there are no transcripts.
        """
        if not batch.targets:
            raise DataError(f"utterance {batch.ids[0]} has no transcript (text) to train on")
        if head.training:
            features = spec_augment(features, lengths, batch.seeds, self.config.spec_augment)
        logits, frames = head(features, lengths)
        symbols, characters = batch.targets["symbols"], batch.targets["lengths"]
        losses = _ctc(logits, frames, symbols, characters)
        unalignable = frames_needed(symbols, characters).to(frames.device) > frames
        shares = valid_mask(frames, logits.shape[1]) / frames[:, None]
        return LossTerms(
            sum=(losses / characters.clamp(min=1).to(losses.device)).sum(),
            weight=torch.tensor(float(len(batch.ids)), device=losses.device),
            scalars={"unalignable": unalignable.sum().to(losses)},
            outputs=Outputs(logits, shares.to(logits.device)),
        )

    def _require_alignable(self, samples: int) -> None:
        """Refuse to train on next to nothing, which CTC would do with a loss near 0.

        From durations, so that every attempt of a run finds the same. A smaller share is told by
        the scalar `unalignable`.
        """
        bad = [name for name, longest in self._longest_frames.items() if longest <= samples]
        if 2 * len(bad) > len(self._longest_frames):
            raise DataError(
                "lower a small head's task.head.frame_ms, take an upstream with shorter frames, or "
                f"correct the data: {_some(bad)} of {len(self._longest_frames)} utterances of "
                f"split {self.data.train!r} can't be learnt, their transcripts need more frames "
                "than the head gives"
            )

    def predict(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[Prediction]:
        """{id, hyp}."""
        hypotheses = self.symbols.greedy(*head(features, lengths))
        return [
            {"id": name, "hyp": " ".join(hypothesis.split())}
            for name, hypothesis in zip(batch.ids, hypotheses, strict=True)
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


def _some(ids: Sequence[str]) -> str:
    """`3 (a, b, c)`, or the first three of more."""
    return f"{len(ids)} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"


def _ctc(
    logits: torch.Tensor, frames: torch.Tensor, symbols: torch.Tensor, characters: torch.Tensor
) -> torch.Tensor:
    """(batch,) CTC losses in float32 or wider; 0 without an alignment.

    Runs on the CPU under deterministic algorithms: the backward pass on CUDA is not.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scores = log_softmax(logits, dim=-1).transpose(0, 1)
    if torch.are_deterministic_algorithms_enabled():
        scores = scores.cpu()
    place = scores.device
    return ctc_loss(
        scores,
        symbols.to(place),
        frames.to(place),
        characters.to(place),
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
