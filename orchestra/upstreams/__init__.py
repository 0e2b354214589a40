"""Feature extractors: waveform in, hidden states out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.config.schema import FileConfig, SpectralConfig, UpstreamConfig
from orchestra.wire.job import CODE

if TYPE_CHECKING:
    from orchestra.upstreams.base import Upstream


def build_upstream(config: UpstreamConfig) -> Upstream:
    """The upstream that `config` describes, on the CPU, with its weights.

    A user's own file is that of the run's snapshot, or of the current folder outside of runs.

    Raises:
        UsageError: the model can't be used, or the config asks for what it does not have.
        NotFoundError: there is no such file, folder or hub id, or it can't be reached.
    """
    if isinstance(config, SpectralConfig):
        from orchestra.upstreams.spectral import build_spectral

        return build_spectral(config)
    if isinstance(config, FileConfig):
        from orchestra.upstreams.own import load_own

        return load_own(config, Path(os.environ.get(CODE, Path.cwd())))
    # transformers takes over a second to import: only who needs it pays.
    from orchestra.upstreams.huggingface import load_upstream

    return load_upstream(config)
