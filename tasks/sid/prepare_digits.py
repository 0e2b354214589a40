"""Recordings of single digits to manifests of their speakers; no take is in two splits."""

from __future__ import annotations

from pathlib import Path

from orchestra.data.corpora import Prepared
from orchestra.data.digits import label_takes

CORPUS = "digits-sid"
HELP = "recordings named {digit}_{speaker}_{take}.wav; who speaks?"


def prepare(root: Path, out: Path) -> Prepared:
    """Manifests of train, dev and test (NotFoundError: there are no recordings)."""
    return label_takes(root, out, lambda take: take.speaker)
