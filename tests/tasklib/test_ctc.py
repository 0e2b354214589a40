"""CTC: frames needed, losses of what can't be aligned, greedy decoding."""

from __future__ import annotations

import pytest
import torch

from orchestra.tasklib.ctc import BLANK, Symbols, ctc_losses, frames_needed, frames_of
from orchestra.wire.errors import DataError


def test_frames_needed_counts_doubled_characters() -> None:
    symbols = Symbols("ABO K")
    targets = [symbols.encode(text, "u") for text in ("BOOK", "AAA", "")]
    lengths = torch.tensor([len(target) for target in targets])
    padded = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
    assert frames_needed(padded, lengths).tolist() == [5, 5, 0]
    assert [frames_of(text) for text in ("BOOK", "AAA", "")] == [5, 5, 0]


def test_greedy_merges_repeats_drops_blanks_and_stops_at_the_length() -> None:
    symbols = Symbols(" AB")  # blank 0, space 1, A 2, B 3
    paths = torch.tensor(
        [[2, 2, 0, 2, 3, 1, 1, 3], [0, 0, 0, 0, 0, 0, 0, 0], [3, 0, 3, 2, 2, 2, 2, 2]]
    )
    logits = torch.nn.functional.one_hot(paths, 4).float()
    spoken = symbols.greedy(logits, torch.tensor([8, 8, 3]))
    assert ["".join(tokens) for tokens in spoken] == ["AAB B", "", "BB"]


def test_a_token_that_is_no_symbol_is_named_with_its_utterance() -> None:
    symbols = Symbols(["AA", "B"])
    assert symbols.encode(["B", "AA", "B"], "u1").tolist() == [2, 1, 2]
    assert len(symbols) == 3
    with pytest.raises(DataError, match="utterance u1: 'ZH' did not occur in training; correct"):
        symbols.encode(["B", "ZH"], "u1")


def test_without_an_alignment_loss_and_gradient_are_zero_and_its_neighbour_keeps_its_own() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    frames = torch.tensor([3, 3])
    targets, lengths = torch.tensor([[1, 1, 2], [3, BLANK, BLANK]]), torch.tensor([3, 1])
    losses = ctc_losses(logits, frames, targets, lengths)
    losses.sum().backward()
    assert losses[0] == 0
    assert losses[1] > 0
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).any()
