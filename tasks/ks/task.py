"""Keyword spotting: the classification of tasklib, with weights of classes."""

from __future__ import annotations

import torch

from orchestra.tasklib.classification import Classification


class Task(Classification):
    """See README.md."""

    def weights(self, labels: torch.Tensor) -> torch.Tensor:
        """(batch,): with "balanced" N / (C n) where n of all N utterances are of the class.

        Their mean over the training split is 1 (as scikit-learn's class_weight="balanced").
        """
        if self.config.class_weights == "none":
            return super().weights(labels)
        counts = torch.tensor(list(self.counts["label"].values()), dtype=torch.float32)
        balanced = counts.sum() / (len(counts) * counts)
        return balanced.to(labels.device)[labels[:, 0]]
