"""Recordings, manifests and batches. Training plane: knows no terminal, database or git."""
