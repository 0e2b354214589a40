"""Emotion recognition: the classification of tasklib as it is."""

from __future__ import annotations

from orchestra.tasklib.classification import Classification


class Task(Classification):
    """See README.md."""
