"""`python -m orchestra.upstreams.describe SOURCE`: an upstream as one JSON object.

For callers that must not import the training plane. Reads a pretrained model's JSON files; with
--weights its weights are fetched as well, with --newest the hub and web servers are asked what they
have now. A user's own file (SOURCE ends with .py) is imported, its class made and tried on noise.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from orchestra.config.schema import FileConfig
from orchestra.data.program import Outcome, run, say
from orchestra.fetch.model import PARTS, Wanted
from orchestra.fetch.retry import Patience
from orchestra.fetch.web import Web
from orchestra.upstreams.pretrained import read_pretrained
from orchestra.wire import lifeline

#: For who only asks, and says nothing meanwhile.
_SHORT = Patience(failures=3, silence_s=10.0, longest_asked_s=60.0)


def describe(source: Wanted, *, weights: bool = False, newest: bool = False) -> dict[str, Any]:
    """Layers, dim, stride (samples), and what else is known without loading the model.

    `files` (name, size in bytes, sha256, source) is there once all of them are on this machine;
    `pins` are the values of `upstream.revision` and `upstream.parts` that mean just these files.
    """
    web = None if weights else Web(say, _SHORT)
    model = read_pretrained(source, newest=newest, web=web)
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


def describe_own(config: FileConfig, code: Path) -> dict[str, Any]:
    """The same of a user's own upstream, which needs no files but its own; `dim` of its widest
    layer."""
    from orchestra.upstreams.own import load_own  # torch takes a second to import
    from orchestra.upstreams.trial import try_out

    with redirect_stdout(sys.stderr):  # stdout is for the answer alone
        upstream = load_own(config, code)
        try_out(upstream, code)
    return {
        "source": config.source,
        "model_type": None,
        "layers": len(upstream.dims),
        "dim": max(upstream.dims),
        "stride": upstream.stride,
        "min_samples": upstream.min_samples,
        "normalize": False,
        "commit": None,
        "missing_bytes": 0,
        "files": None,
        "folder": None,
        "pins": {},
        "notes": [],
    }


def main() -> int:
    """Print the description; returns the exit code."""
    lifeline.die_with_parent()
    parser = argparse.ArgumentParser(prog="python -m orchestra.upstreams.describe")
    parser.add_argument(
        "source", metavar="SOURCE", help="hub id, URL, folder of save_pretrained, or own file"
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    for part in PARTS:
        parser.add_argument(f"--{part}-from", metavar="SOURCE", help="where this part is from")
    parser.add_argument("--weights", action="store_true", help="fetch the weights too")
    parser.add_argument("--newest", action="store_true", help="ask what a branch or URL gives now")
    parser.add_argument("--code", type=Path, default=Path(), help="folder that an own file is in")
    parser.add_argument("--key", default="hidden_states", help="output of an own upstream")
    parser.add_argument("--options", type=json.loads, default={}, help="its options as JSON")
    return run(parser, _described)


def _described(options: argparse.Namespace) -> Outcome:
    if options.source.endswith(".py"):
        name = Path(options.source).stem
        config = FileConfig(
            name=name, source=options.source, options=options.options, key=options.key
        )
        return Outcome(describe_own(config, options.code))
    given = {part: getattr(options, f"{part}_from") for part in PARTS}
    parts = {part: source for part, source in given.items() if source is not None}
    wanted = Wanted(options.source, options.revision, parts)
    return Outcome(describe(wanted, weights=options.weights, newest=options.newest))


if __name__ == "__main__":
    sys.exit(main())
