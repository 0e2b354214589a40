"""Recordings, manifests and batches. Training plane: knows no terminal, database or git."""

SAMPLE_RATE = 16_000
"""Hz, of every waveform that a task or an upstream sees."""
