"""How far padding moves the features of models of published sizes (random weights, float32)."""

from __future__ import annotations

import tempfile
from typing import Any

import torch

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams import build_upstream
from tests.benchmarks.table import Row
from tests.upstreams.tiny import FAMILIES, of_transformers

BAR = 1e-5
LENGTHS = torch.tensor([48_000, 31_234, 16_000])
#: What transformers' defaults of a config are not.
SIZES: dict[str, dict[str, Any]] = {
    "wav2vec2": {},
    "hubert": {},
    "wavlm": {},
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
        "decoder_layers": 1,
    },
    "audio-spectrogram-transformer": {},
}


def measure() -> list[Row]:
    """A batch of three utterances against each alone, over all layers."""
    return [
        Row(
            f"padding moves features of {family} by at most",
            f"{worst_difference(family, changes):.1e}",
            f"{BAR:g}",
            "12 layers, random weights, 3 s, 2 s and 1 s in a batch and alone; values reach to 5",
        )
        for family, changes in SIZES.items()
    ]


@torch.no_grad()
def worst_difference(family: str, changes: dict[str, Any]) -> float:
    """The largest over layers and valid frames; values reach to about 5."""
    tiny = FAMILIES[family]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        of_transformers(tiny.model)(of_transformers(tiny.config)(**changes)).save_pretrained(folder)
        if tiny.extractor is not None:
            of_transformers(tiny.extractor[0])().save_pretrained(folder)
        upstream = build_upstream(HuggingFaceConfig(name=family, source=folder))
    wavs = 0.1 * torch.randn(len(LENGTHS), int(LENGTHS.max()) + 1000) + 0.01
    wavs = wavs.masked_fill(torch.arange(wavs.shape[1]) >= LENGTHS.unsqueeze(1), 5.0)
    together = upstream(wavs, LENGTHS).layers["hidden_states"]
    worst = 0.0
    for row, samples in enumerate(LENGTHS.tolist()):
        alone = upstream(wavs[row : row + 1, :samples], LENGTHS[row : row + 1])
        frames = int(alone.lengths[0])
        for layer, single in zip(together, alone.layers["hidden_states"], strict=True):
            worst = max(worst, float((layer[row, :frames] - single[0, :frames]).abs().max()))
    return worst
