"""`python -m orchestra.upstreams.describe SOURCE`: a pretrained model as one JSON object.

For callers that must not import the training plane. Reads the model's JSON files, no weights.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from orchestra.data.program import Outcome, run
from orchestra.upstreams.pretrained import read_pretrained


def describe(source: str, revision: str | None = None) -> dict[str, Any]:
    """Layers, dim, stride (samples), and what else is known without loading the model."""
    model = read_pretrained(source, revision)
    return {
        "source": source,
        "model_type": model.model_type,
        "layers": model.shape.layers,
        "dim": model.shape.dim,
        "stride": model.shape.stride,
        "min_samples": model.shape.min_samples,
        "normalize": model.normalize,
    }


def main() -> int:
    """Print the description; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m orchestra.upstreams.describe")
    parser.add_argument("source", metavar="SOURCE", help="hub id, or a folder of save_pretrained")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    return run(parser, lambda options: Outcome(describe(options.source, options.revision)))


if __name__ == "__main__":
    sys.exit(main())
