"""Connectionist temporal classification (Graves et al. 2006) over named symbols.

Index 0 is the blank, token k of a task has index k + 1. Knows neither heads nor texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn.functional import ctc_loss, log_softmax

from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import DataError

BLANK = 0


class Symbols:
    """The output symbols of a head: the blank and the tokens, such as characters or phones."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tuple(tokens)
        self._index = {token: index for index, token in enumerate(self._tokens, BLANK + 1)}

    def __len__(self) -> int:
        return len(self._tokens) + 1

    def unknown(self, tokens: Sequence[str]) -> list[str]:
        """Those of the tokens that are no symbols, sorted, each once."""
        return sorted(set(tokens) - self._index.keys())

    def encode(self, tokens: Sequence[str], utterance_id: str) -> torch.Tensor:
        """(tokens,) int64.

        Raises:
            DataError: a token is no symbol; the utterance and the token are named.
        """
        if unknown := self.unknown(tokens):
            listed = ", ".join(repr(token) for token in unknown)
            raise DataError(
                f"utterance {utterance_id}: {listed} did not occur in training; correct its "
                "reference, or leave it out"
            )
        return torch.tensor([self._index[token] for token in tokens], dtype=torch.int64)

    def greedy(self, logits: torch.Tensor, lengths: torch.Tensor) -> list[list[str]]:
        """The best path's tokens: equal neighbours merged, then blanks dropped.

        Args:
            logits: (batch, frames, symbols).
            lengths: (batch,) in frames; what lies behind is not read.
        """
        best = logits.argmax(dim=-1)
        spoken = (best != BLANK) & valid_mask(lengths.to(best.device), best.shape[1])
        spoken[:, 1:] &= best[:, 1:] != best[:, :-1]
        symbols = best[spoken].tolist()
        ends = spoken.sum(dim=1).cumsum(dim=0).tolist()
        return [
            [self._tokens[symbol - 1] for symbol in symbols[start:end]]
            for start, end in zip([0, *ends], ends, strict=False)
        ]


def frames_needed(targets: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(batch,) frames that CTC needs: one a symbol and a blank between equal neighbours.

    Args:
        targets: (batch, symbols), padded.
        lengths: (batch,) in symbols.
    """
    doubles = (targets[:, 1:] == targets[:, :-1]) & valid_mask(lengths, targets.shape[1])[:, 1:]
    return lengths + doubles.sum(dim=1)


def frames_of(tokens: Sequence[str]) -> int:
    """`frames_needed` of one utterance's tokens."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def ctc_losses(
    logits: torch.Tensor, frames: torch.Tensor, targets: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """(batch,) CTC losses in float32 or wider; 0 where there is no alignment.

    Runs on the CPU under deterministic algorithms: the backward pass on CUDA is not.

    Args:
        logits: (batch, frames, symbols).
        frames: (batch,) valid frames.
        targets: (batch, symbols), padded.
        lengths: (batch,) in symbols.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scores = log_softmax(logits, dim=-1).transpose(0, 1)
    if torch.are_deterministic_algorithms_enabled():
        scores = scores.cpu()
    place = scores.device
    return ctc_loss(
        scores,
        targets.to(place),
        frames.to(place),
        lengths.to(place),
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
