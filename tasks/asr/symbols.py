"""Transcripts as symbol indices and back. Index 0 is the CTC blank, character k has index k + 1."""

from __future__ import annotations

from itertools import pairwise

import torch

from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import DataError

BLANK = 0


class Symbols:
    """The output symbols of a head: the blank and the configured characters."""

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._index = {character: index for index, character in enumerate(characters, BLANK + 1)}

    def __len__(self) -> int:
        return len(self.characters) + 1

    def check(self, text: str, utterance_id: str) -> str:
        """The text with one space for each run of white space.

        Raises:
            DataError: a character is outside the set; the utterance and the character are named.
        """
        words = " ".join(text.split())
        unknown = sorted(set(words) - self._index.keys())
        if unknown:
            listed = ", ".join(repr(character) for character in unknown)
            raise DataError(
                f"utterance {utterance_id}: its transcript has {listed}, not among the "
                f"characters {self.characters!r}; correct it or set task.characters"
            )
        return words

    def encode(self, text: str, utterance_id: str) -> torch.Tensor:
        """(characters,) int64 of a text that passes `check`."""
        words = self.check(text, utterance_id)
        return torch.tensor([self._index[character] for character in words], dtype=torch.int64)

    def greedy(self, logits: torch.Tensor, lengths: torch.Tensor) -> list[str]:
        """The best path's texts: equal neighbours merged, then blanks dropped.

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
            "".join(self.characters[symbol - 1] for symbol in symbols[start:end])
            for start, end in zip([0, *ends], ends, strict=False)
        ]


def frames_needed(targets: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(batch,) frames that CTC needs: one a character and a blank between equal neighbours.

    Args:
        targets: (batch, characters), padded.
        lengths: (batch,) in characters.
    """
    doubles = (targets[:, 1:] == targets[:, :-1]) & valid_mask(lengths, targets.shape[1])[:, 1:]
    return lengths + doubles.sum(dim=1)


def frames_of_text(words: str) -> int:
    """`frames_needed` of a text as `Symbols.check` gives it."""
    return len(words) + sum(a == b for a, b in pairwise(words))
