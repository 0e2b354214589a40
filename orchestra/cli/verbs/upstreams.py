"""orchestra upstreams"""

from __future__ import annotations

from dataclasses import asdict

from orchestra.cli import options
from orchestra.cli.output import emit_json, table


def upstreams(json: options.Json = False) -> None:
    """List the upstreams known by name; any hub id or local folder works too.

    \b
    Examples:
      orchestra upstreams
      orchestra run asr --upstream hubert_large_ll60k
      orchestra run asr --upstream facebook/wav2vec2-base
      orchestra run asr --upstream /models/mine      (written by save_pretrained)
    """
    from orchestra.config.upstream_names import UPSTREAMS

    known = UPSTREAMS.values()
    if json:
        emit_json([asdict(info) for info in known])
        return
    table(
        [
            {
                "upstream": info.name,
                "layers": str(info.layers),
                "dim": str(info.dim),
                "stride": f"{info.stride / 16:g} ms",
                "source": info.source or "built in",
                "aliases": ", ".join(info.aliases),
            }
            for info in known
        ],
        right=("layers", "dim", "stride"),
    )
