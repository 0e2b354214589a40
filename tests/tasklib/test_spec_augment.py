"""SpecAugment: keyed by the utterance's seed, blind to padding and batch mates, within limits."""

from __future__ import annotations

import pytest
import torch

from orchestra.tasklib.ctc_config import SpecAugmentConfig
from orchestra.tasklib.spec_augment import spec_augment

FULL = SpecAugmentConfig()
OFF = SpecAugmentConfig(time_warp=0, time_masks=0, feature_masks=0)


def features(batch: int = 3, frames: int = 120, dim: int = 60) -> torch.Tensor:
    return torch.rand(batch, frames, dim, generator=torch.Generator().manual_seed(7)) + 0.5


def test_alone_equals_in_a_padded_batch() -> None:
    inputs, lengths = features(), torch.tensor([120, 75, 33])
    together = spec_augment(inputs, lengths, [1, 2, 3], FULL)
    for row, (length, seed) in enumerate(zip(lengths.tolist(), [1, 2, 3], strict=True)):
        alone = spec_augment(inputs[row : row + 1, :length], lengths[row : row + 1], [seed], FULL)
        assert torch.equal(alone[0], together[row, :length])


def test_depends_on_the_seed_and_not_on_the_global_state() -> None:
    inputs, lengths = features(1), torch.tensor([120])
    torch.manual_seed(1)
    first = spec_augment(inputs, lengths, [5], FULL)
    torch.manual_seed(2)
    assert torch.equal(first, spec_augment(inputs, lengths, [5], FULL))
    assert not torch.equal(first, spec_augment(inputs, lengths, [6], FULL))


def test_off_changes_nothing() -> None:
    assert torch.equal(
        spec_augment(features(), torch.tensor([120, 75, 1]), [1, 2, 3], OFF), features()
    )


@pytest.mark.parametrize("length", [1, 2, 10, 11, 12, 120])
def test_masks_stay_within_their_widths(length: int) -> None:
    config = SpecAugmentConfig(
        time_warp=0, time_masks=1, time_mask_frames=8, feature_masks=1, feature_mask_dims=5
    )
    seeds = list(range(200))
    inputs, lengths = features(200), torch.full((200,), length)
    hidden = spec_augment(inputs, lengths, seeds, config)[:, :length] == 0
    widths = hidden.all(dim=2).sum(dim=1)
    assert widths.max() == min(8, length)
    assert widths.min() == 0
    if length == 2:  # 0, 1 and 2 are equally likely
        assert (widths == 2).float().mean() < 0.5
    if length > 8:
        dims = hidden.all(dim=1).sum(dim=1)
        assert (dims.min(), dims.max()) == (0, 5)


def test_warp_keeps_order_ends_and_padding() -> None:
    config = SpecAugmentConfig(time_warp=5, time_masks=0, feature_masks=0)
    ramp = torch.arange(100.0).repeat(50, 1)[:, :, None]
    lengths = torch.full((50,), 80)
    warped = spec_augment(ramp, lengths, list(range(50)), config)[:, :, 0]
    assert (warped[:, 1:80] > warped[:, :79]).all()
    assert torch.equal(warped[:, 0], ramp[:, 0, 0])
    torch.testing.assert_close(warped[:, 79:], ramp[:, 79:, 0])
    moves = (warped - ramp[:, :, 0]).abs().amax(dim=1)
    assert moves.max() <= 5
    assert moves.max() > 3


def test_bfloat16_features_are_warped_like_float32() -> None:
    config = SpecAugmentConfig(time_warp=5, time_masks=0, feature_masks=0)
    inputs, lengths = features(1, frames=1000).bfloat16(), torch.tensor([1000])
    exact = spec_augment(inputs.float(), lengths, [3], config)
    rounded = spec_augment(inputs, lengths, [3], config)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.02)


def test_gradients_reach_the_features() -> None:
    inputs = features().requires_grad_()
    spec_augment(inputs, torch.tensor([120, 75, 33]), [1, 2, 3], FULL).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad[:, :20].abs().sum() > 0
