"""Recordings of single digits to manifests of ten keywords; no take is in two splits."""

from __future__ import annotations

from pathlib import Path

from orchestra.data.corpora import Prepared
from orchestra.data.digits import WORDS, label_takes

CORPUS = "digits-ks"
HELP = "recordings named {digit}_{speaker}_{take}.wav; the digits are keywords"


def prepare(root: Path, out: Path) -> Prepared:
    """Manifests of train, dev and test (NotFoundError: there are no recordings)."""
    return label_takes(root, out, lambda take: WORDS[take.digit].lower())
