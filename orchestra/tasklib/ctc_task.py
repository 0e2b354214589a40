"""The frame of a CTC task: targets, loss, greedy decoding, and refusals of what can't be learnt.

A task says what an utterance's tokens are (characters, phones ...) and what its records hold.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch.nn.utils.rnn import pad_sequence

from orchestra.config.schema import DataConfig
from orchestra.data import SAMPLE_RATE
from orchestra.tasklib.ctc import BLANK, Symbols, ctc_losses, frames_needed, frames_of
from orchestra.tasklib.ctc_heads import build_head, frame_samples
from orchestra.tasklib.spec_augment import spec_augment
from orchestra.tasks import Batch, LossTerms, Outputs, Task
from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance


class CtcTask(Task):
    """Its config has `head` (a CTC head's table) and `spec_augment` (a table, or None for none)."""

    label: ClassVar[str]
    """What the references are and which manifest keys hold them, for messages."""

    symbols: Symbols = Symbols(())
    """Set in __init__, or in `recall` where they are learnt."""

    def __init__(self, config: Any, data: DataConfig) -> None:
        super().__init__(config, data)
        self._longest_frames: dict[str, float] = {}
        """By id: the samples of a frame from which on a training reference has too few frames."""

    @abstractmethod
    def tokens(self, utterance: Utterance) -> Sequence[str] | None:
        """The reference as symbols, None where there is none (DataError: it can't be used)."""

    def utterances(self, split: str) -> list[Utterance]:
        """All of a split, which has a reference for every utterance or for none.

        Raises:
            NotFoundError, DataError: also for references that can't be used: now, not at the end.
        """
        utterances = self.usable(super().utterances(split), split)
        references = {utterance.id: self.tokens(utterance) for utterance in utterances}
        silent = [name for name, tokens in references.items() if tokens is None]
        if silent and len(silent) < len(references):
            raise DataError(
                f"split {split!r}: {some(silent)} of {len(references)} utterances have no "
                f"{self.label}; add theirs, or take it from all to have them predicted only"
            )
        if len(self.symbols) > 1:
            for name, tokens in references.items():
                self.symbols.encode(tokens or (), name)
        if split == self.data.train:
            for utterance in utterances:
                samples = utterance.duration_s * SAMPLE_RATE
                frames = frames_of(references[utterance.id] or ())
                self._longest_frames[utterance.id] = samples / max(frames - 1, 1)
        return utterances

    def usable(self, utterances: list[Utterance], split: str) -> list[Utterance]:
        """Those of a split that the task's policies let through; whatever they change is logged.

        Raises:
            DataError: a policy refuses the split.
        """
        return utterances

    def target(self, utterance: Utterance) -> torch.Tensor | None:
        """(tokens,) int64, or None without a reference."""
        tokens = self.tokens(utterance)
        return None if tokens is None else self.symbols.encode(tokens, utterance.id)

    def collate(self, targets: Sequence[Any]) -> dict[str, torch.Tensor]:
        """symbols (batch, tokens), lengths (batch,); empty if a reference is missing."""
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
            DataError: they are too long for most references of the training split, if it was read;
                or the run has learnt no symbols.
        """
        if len(self.symbols) == 1:
            raise DataError("this run has learnt no symbols: its learnt.json is missing; train it")
        head = build_head(self.config.head, dim, stride, len(self.symbols))
        self._require_alignable(frame_samples(self.config.head, stride))
        return head

    def loss(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> LossTerms:
        """CTC loss per token, summed over utterances (weight: utterances).

        The mean is that of torch's CTCLoss(reduction="mean"). An utterance with fewer frames than
        its reference needs has no alignment: it adds 0, and to the scalar `unalignable`. Outputs
        are a distribution over symbols at each frame; an utterance's together weigh 1.

        Raises:
            DataError: there are no references.
        """
        if not batch.targets:
            raise DataError(f"utterance {batch.ids[0]} has no {self.label} to train on")
        if head.training and self.config.spec_augment is not None:
            features = spec_augment(features, lengths, batch.seeds, self.config.spec_augment)
        logits, frames = head(features, lengths)
        symbols, tokens = batch.targets["symbols"], batch.targets["lengths"]
        losses = ctc_losses(logits, frames, symbols, tokens)
        unalignable = frames_needed(symbols, tokens).to(frames.device) > frames
        shares = valid_mask(frames, logits.shape[1]) / frames[:, None]
        return LossTerms(
            sum=(losses / tokens.clamp(min=1).to(losses.device)).sum(),
            weight=torch.tensor(float(len(batch.ids)), device=losses.device),
            scalars={"unalignable": unalignable.sum().to(losses)},
            outputs=Outputs(logits, shares.to(logits.device)),
        )

    def recognise(
        self, head: torch.nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: Batch
    ) -> list[tuple[str, list[str]]]:
        """(id, tokens of the best path) of each utterance; no language model."""
        return list(zip(batch.ids, self.symbols.greedy(*head(features, lengths)), strict=True))

    def _require_alignable(self, samples: int) -> None:
        """Refuse to train on next to nothing, which CTC would do with a loss near 0.

        From durations, so that every attempt of a run finds the same. A smaller share is told by
        the scalar `unalignable`.
        """
        bad = [name for name, longest in self._longest_frames.items() if longest <= samples]
        if 2 * len(bad) > len(self._longest_frames):
            raise DataError(
                "lower a small head's task.head.frame_ms, take an upstream with shorter frames, or "
                f"correct the data: {some(bad)} of {len(self._longest_frames)} utterances of "
                f"split {self.data.train!r} can't be learnt, their references need more frames "
                "than the head gives"
            )


def some(names: Sequence[str]) -> str:
    """`3 (a, b, c)`, or the first three of more."""
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
