"""Statistics over an utterance are the same bit for bit, however much padding is behind it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestra.upstreams.padding import Lengths, MaskedGroupNorm

VALID = torch.tensor([40_001, 23_457, 9_999])
PADDED = 47_777


def noise(*shape: int) -> torch.Tensor:
    return 0.3 + torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("groups", [4, 1])
def test_a_group_norms(groups: int) -> None:
    stock = nn.GroupNorm(groups, 4)
    lengths = Lengths()
    norm = MaskedGroupNorm(stock, lengths)
    values = noise(len(VALID), 4, PADDED)
    lengths.valid = VALID
    together = norm(values)
    for row, valid in enumerate(VALID.tolist()):
        lengths.valid = VALID[row, None]
        alone = values[row : row + 1, :, :valid]
        assert torch.equal(norm(alone)[0], together[row, :, :valid])
        torch.testing.assert_close(norm(alone), stock(alone), atol=1e-5, rtol=0)
