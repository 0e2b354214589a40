"""The frames of all features that are not a model's own: 25 ms every 10 ms. No torch here."""

from __future__ import annotations

WINDOW = 400
"""Samples (16 kHz) of a frame."""
SHIFT = 160
"""Samples from one frame to the next."""
