"""How far padding moves the features of models of published widths (random weights, float32).

One thread, short utterances and no weights on disk: minutes even on a busy machine.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams import build_upstream, huggingface
from orchestra.upstreams.base import Upstream
from orchestra.upstreams.pretrained import Pretrained
from tests.benchmarks.table import Row
from tests.upstreams.tiny import FAMILIES, of_transformers

BAR = 1e-5
LENGTHS = torch.tensor([16_000, 11_234, 5_000])
NO_TENSORS = (2).to_bytes(8, "little") + b"{}"
#: What transformers' defaults of a config are not: 12 blocks in each; AST takes windows of 2.6 s.
SIZES: dict[str, dict[str, Any]] = {
    "wav2vec2": {},
    "hubert": {},
    "wavlm": {},
    "unispeech": {},
    "unispeech-sat": {},
    "data2vec-audio": {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
    "sew": {},
    "sew-d": {},
    "wav2vec2-conformer": {},
    "wav2vec2-bert": {"num_hidden_layers": 12},
    "whisper": {
        "d_model": 768,
        "encoder_layers": 12,
        "encoder_attention_heads": 12,
        "encoder_ffn_dim": 3072,
    },
    "moonshine": {"encoder_num_hidden_layers": 12},
    "parakeet_encoder": {"num_hidden_layers": 12},
    "speecht5": {},
    "audio-spectrogram-transformer": {"max_length": 256},
}


def measure() -> list[Row]:
    """A batch of three utterances against each alone, over all layers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for family, changes in SIZES.items():
        worst, largest = worst_difference(family, changes)
        rows.append(
            Row(
                f"padding moves features of {family} by at most",
                f"{worst:.1e}",
                f"{BAR:g}",
                "12 layers, random weights, 1.0 s, 0.7 s and 0.3 s in a batch and alone; values "
                f"reach to {largest:.1f}",
            )
        )
        print(f"  {family}: {worst:.1e}", file=sys.stderr, flush=True)
    torch.set_num_threads(threads)
    return rows


@torch.no_grad()
def worst_difference(family: str, changes: dict[str, Any]) -> tuple[float, float]:
    """The largest difference, and the largest value, over layers and valid frames."""
    torch.manual_seed(0)
    upstream = drawn(family, changes)
    wavs = 0.1 * torch.randn(len(LENGTHS), int(LENGTHS.max()) + 1000) + 0.01
    wavs = wavs.masked_fill(torch.arange(wavs.shape[1]) >= LENGTHS.unsqueeze(1), 5.0)
    together = upstream(wavs, LENGTHS).layers["hidden_states"]
    worst = largest = 0.0
    for row, samples in enumerate(LENGTHS.tolist()):
        alone = upstream(wavs[row : row + 1, :samples], LENGTHS[row : row + 1])
        frames = int(alone.lengths[0])
        for layer, single in zip(together, alone.layers["hidden_states"], strict=True):
            worst = max(worst, float((layer[row, :frames] - single[0, :frames]).abs().max()))
            largest = max(largest, float(single[0, :frames].abs().max()))
    return worst, largest


def drawn(family: str, changes: dict[str, Any]) -> Upstream:
    """An upstream with the weights that transformers begins with."""

    def model(pretrained: Pretrained) -> Any:
        return huggingface.class_of(pretrained)(huggingface.config_of(pretrained))

    tiny = FAMILIES[family]
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(huggingface, "_load_model", model),
    ):
        of_transformers(tiny.config)(**changes).save_pretrained(folder)
        (Path(folder) / "model.safetensors").write_bytes(NO_TENSORS)
        if tiny.extractor is not None:
            of_transformers(tiny.extractor[0])().save_pretrained(folder)
        return build_upstream(HuggingFaceConfig(name=family, source=folder))
