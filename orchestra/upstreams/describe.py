"""`python -m orchestra.upstreams.describe SOURCE`: a pretrained model as one JSON object.

For callers that must not import the training plane. Reads the model's JSON files; with --weights
its weights are fetched as well. What a branch or URL gives now counts, not what it gave before.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from orchestra.data.program import Outcome, run
from orchestra.fetch.model import PARTS, Wanted
from orchestra.upstreams.pretrained import read_pretrained


def describe(source: Wanted, *, weights: bool = False) -> dict[str, Any]:
    """Layers, dim, stride (samples), and what else is known without loading the model.

    `files` (name, size in bytes, sha256, source) is there once all of them are on this machine;
    `pins` are the values of `upstream.revision` and `upstream.parts` that mean just these files.
    """
    model = read_pretrained(source, newest=True)
    missing_bytes = model.files.missing_bytes()
    here = weights or missing_bytes == 0
    return {
        "source": model.source,
        "model_type": model.model_type,
        "layers": model.shape.layers,
        "dim": model.shape.dim,
        "stride": model.shape.stride,
        "min_samples": model.shape.min_samples,
        "normalize": model.normalize,
        "commit": model.files.commit,
        "missing_bytes": 0 if here else missing_bytes,
        "files": model.files.record() if here else None,
        "folder": str(model.files.folder()) if here else None,
        "pins": model.files.pins(),
        "notes": list(model.files.notes),
    }


def main() -> int:
    """Print the description; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m orchestra.upstreams.describe")
    parser.add_argument("source", metavar="SOURCE", help="hub id, URL or folder of save_pretrained")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    for part in PARTS:
        parser.add_argument(f"--{part}-from", metavar="SOURCE", help="where this part is from")
    parser.add_argument("--weights", action="store_true", help="fetch the weights too")
    return run(parser, _described)


def _described(options: argparse.Namespace) -> Outcome:
    given = {part: getattr(options, f"{part}_from") for part in PARTS}
    parts = {part: source for part, source in given.items() if source is not None}
    wanted = Wanted(options.source, options.revision, parts)
    return Outcome(describe(wanted, weights=options.weights))


if __name__ == "__main__":
    sys.exit(main())
