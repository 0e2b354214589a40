"""`python -m orchestra.upstreams.describe SOURCE`: an upstream as one JSON object.

For callers that must not import the training plane. Of a pretrained model the JSON files are read,
no weights; a user's own file (SOURCE ends with .py) is imported and its class made.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from orchestra.config.schema import FileConfig
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


def describe_own(config: FileConfig, code: Path) -> dict[str, Any]:
    """The same of a user's own upstream; `dim` of its widest layer."""
    from orchestra.upstreams.own import load_own  # torch takes a second to import

    upstream = load_own(config, code)
    return {
        "source": config.source,
        "model_type": None,
        "layers": len(upstream.dims),
        "dim": max(upstream.dims),
        "stride": upstream.stride,
        "min_samples": upstream.min_samples,
        "normalize": False,
    }


def main() -> int:
    """Print the description; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m orchestra.upstreams.describe")
    parser.add_argument(
        "source", metavar="SOURCE", help="hub id, folder of save_pretrained, or own file"
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--code", type=Path, default=Path(), help="folder that an own file is in")
    parser.add_argument("--key", default="hidden_states", help="output of an own upstream")
    parser.add_argument("--options", type=json.loads, default={}, help="its options as JSON")
    return run(parser, _work)


def _work(options: argparse.Namespace) -> Outcome:
    source: str = options.source
    if not source.endswith(".py"):
        return Outcome(describe(source, options.revision))
    config = FileConfig(
        name=Path(source).stem, source=source, options=options.options, key=options.key
    )
    return Outcome(describe_own(config, options.code))


if __name__ == "__main__":
    sys.exit(main())
