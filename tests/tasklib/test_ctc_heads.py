"""Heads of CTC tasks: what their frames are, and that dropout follows the seed."""

from __future__ import annotations

import pytest
import torch

from orchestra.tasklib.ctc_config import LinearHeadConfig, SmallHeadConfig, SuperbHeadConfig
from orchestra.tasklib.ctc_heads import build_head, frame_samples, stack_frames, stack_size
from orchestra.wire.errors import UsageError

DIM = 6
SYMBOLS = 5


@pytest.mark.parametrize("layers", [1, 3])
def test_superb_heads_dropout_is_behind_each_layer_and_follows_the_seed(layers: int) -> None:
    config = SuperbHeadConfig(projection=8, hidden=8, dropout=0.5, layers=layers)
    head = build_head(config, DIM, 160, SYMBOLS)
    features, lengths = torch.randn(2, 9, DIM), torch.tensor([9, 5])

    def logits(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return head(features, lengths)[0]

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    # The dropout of an nn.LSTM itself draws elsewhere on GPUs, where no seed reaches it.
    assert not any(m.dropout for m in head.modules() if isinstance(m, torch.nn.LSTM))
    head.eval()
    assert torch.equal(logits(1), logits(2))


def test_stacking_fills_an_incomplete_frame_with_zeros() -> None:
    features = torch.arange(1.0, 11.0).reshape(2, 5, 1)
    stacked, lengths = stack_frames(features, torch.tensor([5, 3]), 2)
    assert lengths.tolist() == [3, 2]
    assert stacked[0].tolist() == [[1, 2], [3, 4], [5, 0]]
    assert stacked[1, :2].tolist() == [[6, 7], [8, 0]]


@pytest.mark.parametrize(("stride", "size"), [(160, 3), (320, 1), (240, 2), (480, 1)])
def test_frames_are_joined_up_to_the_length_asked_for(stride: int, size: int) -> None:
    head = build_head(SmallHeadConfig(), DIM, stride, SYMBOLS)
    _, lengths = head(torch.zeros(1, 12, DIM), torch.tensor([12]))
    assert lengths.tolist() == [12 // size]
    assert frame_samples(SmallHeadConfig(), stride) == size * stride
    assert frame_samples(LinearHeadConfig(), stride) == stride


def test_frames_longer_than_asked_for_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"task.head.frame_ms = 30: the upstream's frames are 40 ms"
    ):
        stack_size(30, 640)


def test_linear_head_is_affine_and_sees_each_frame_alone() -> None:
    head = build_head(LinearHeadConfig(projection=8), DIM, 160, SYMBOLS)
    features, lengths = torch.randn(2, 7, DIM), torch.tensor([7, 4])
    logits, frames = head(features, lengths)
    assert (logits.shape, frames.tolist()) == ((2, 7, SYMBOLS), [7, 4])
    torch.testing.assert_close(head(features[:, 3:4], lengths)[0], logits[:, 3:4])
    middle = (features[0] + features[1])[None] / 2
    torch.testing.assert_close(head(middle, lengths[:1])[0][0], logits.mean(0))
