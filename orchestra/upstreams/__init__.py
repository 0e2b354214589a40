"""Feature extractors: waveform in, hidden states out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.config.schema import FbankConfig, UpstreamConfig

if TYPE_CHECKING:
    from orchestra.upstreams.base import Upstream


def build_upstream(config: UpstreamConfig) -> Upstream:
    """The upstream that `config` describes, on the CPU, with its weights.

    Raises:
        UsageError: the model can't be used, or the config asks for what it does not have.
        NotFoundError: there is no such folder or hub id, or it can't be reached.
    """
    if isinstance(config, FbankConfig):
        from orchestra.upstreams.fbank import Fbank

        return Fbank(config)
    # transformers takes over a second to import: only who needs it pays.
    from orchestra.upstreams.huggingface import load_upstream

    return load_upstream(config)
