"""Four utterances with transcripts and made-up features, for the tests of CTC tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from orchestra.tasklib.ctc_task import CtcTask
from orchestra.tasks import Batch
from orchestra.wire.manifest import Utterance

DIM = 6
TEXTS = ["THE CAT", "A", "", "SEE  IT'S BOOK"]
LENGTHS = [60, 25, 11, 48]


def utterance(text: str | None, number: int = 0) -> Utterance:
    fields: dict[str, Any] = {} if text is None else {"text": text}
    return Utterance(f"utt-{number}", Path("x.flac"), 0.0, 1.0, fields)


def batch_of(task: CtcTask, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Features, lengths and batch of some of the four utterances; padding is garbage."""
    utterances = [utterance(TEXTS[row], row) for row in rows]
    lengths = torch.tensor([LENGTHS[row] for row in rows])
    features = torch.full((len(rows), int(lengths.max()), DIM), 1e3)
    for place, row in enumerate(rows):
        own = torch.randn(LENGTHS[row], DIM, generator=torch.Generator().manual_seed(row))
        features[place, : LENGTHS[row]] = own
    targets = task.collate([task.target(u) for u in utterances])
    batch = Batch(
        [u.id for u in utterances],
        torch.zeros(len(rows), 1),
        lengths * 160,
        targets,
        rows,
        utterances,
    )
    return features, lengths, batch
