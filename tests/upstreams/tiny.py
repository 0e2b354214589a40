"""Tiny configs of every family of models, and how users' folders of them look."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WAVEFORM = {
    **TRANSFORMER,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    # Both must be switched off by the loader.
    "layerdrop": 0.9,
    "mask_time_prob": 0.5,
}
CONVOLUTIONS = {"conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]}
BASE = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


@dataclass(frozen=True)
class Tiny:
    """One family."""

    config: str
    """transformers' class."""
    model: str
    """The bare model, whose outputs are the reference."""
    saved: str
    """What is saved: published folders often hold a head or a decoder too."""
    values: dict[str, Any]
    extractor: tuple[str, dict[str, Any]] | None = None
    """Of families that don't take waveforms."""
    sizes: bool = True
    """Whether there are base (group norm) and large (layer norm) models."""
    variants: tuple[dict[str, Any], ...] = field(default=({},))


def _waveform(prefix: str, **values: Any) -> Tiny:
    name = f"{prefix}Model"
    return Tiny(f"{prefix}Config", name, name, {**WAVEFORM, **values})


PARAKEET = {
    **TRANSFORMER,
    "num_mel_bins": 16,
    "subsampling_conv_channels": 4,
    "conv_kernel_size": 5,
    "layerdrop": 0.9,
}
MELS = ("ParakeetFeatureExtractor", {"feature_size": 16})


def _parakeet(head: str, **values: Any) -> Tiny:
    """The encoder as a part of a larger model."""
    small = {"vocab_size": 20, "pad_token_id": 0, "encoder_config": PARAKEET, **values}
    config, saved = f"Parakeet{head}Config", f"ParakeetFor{head}"
    return Tiny(config, "ParakeetEncoder", saved, small, MELS, sizes=False)


SPEECHT5 = (
    *("conv_dim", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "mask_time_prob"),
)
FAMILIES = {
    "wav2vec2": _waveform("Wav2Vec2"),
    "hubert": _waveform("Hubert"),
    "wavlm": _waveform("WavLM"),
    "unispeech": _waveform("UniSpeech"),
    "unispeech-sat": _waveform("UniSpeechSat"),
    "data2vec-audio": Tiny(
        "Data2VecAudioConfig",
        "Data2VecAudioModel",
        "Data2VecAudioModel",
        {**WAVEFORM, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5},
        sizes=False,
    ),
    "wav2vec2-conformer": Tiny(
        "Wav2Vec2ConformerConfig",
        "Wav2Vec2ConformerModel",
        "Wav2Vec2ConformerModel",
        {**WAVEFORM, "conv_depthwise_kernel_size": 5},
        variants=({}, {"position_embeddings_type": "rotary"}),
    ),
    "sew": _waveform("SEW", squeeze_factor=2, **CONVOLUTIONS),
    "sew-d": Tiny(
        "SEWDConfig",
        "SEWDModel",
        "SEWDModel",
        {
            **WAVEFORM,
            **CONVOLUTIONS,
            "squeeze_factor": 2,
            "max_position_embeddings": 32,
            "position_buckets": 8,
        },
    ),
    "wav2vec2-bert": Tiny(
        "Wav2Vec2BertConfig",
        "Wav2Vec2BertModel",
        "Wav2Vec2BertModel",
        {
            **TRANSFORMER,
            "feature_projection_input_dim": 32,
            "conv_depthwise_kernel_size": 5,
            "left_max_position_embeddings": 8,
            "right_max_position_embeddings": 3,
            "layerdrop": 0.9,
            "mask_time_prob": 0.5,
        },
        ("SeamlessM4TFeatureExtractor", {"feature_size": 16, "num_mel_bins": 16}),
        sizes=False,
        variants=({}, {"position_embeddings_type": "relative"}),
    ),
    "whisper": Tiny(
        "WhisperConfig",
        "WhisperModel",
        "WhisperForConditionalGeneration",
        {
            "d_model": 16,
            "encoder_layers": 3,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "num_mel_bins": 16,
            "max_source_positions": 50,  # a window of 1 s
            "max_target_positions": 8,
            "vocab_size": 20,
            **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 1),
            "decoder_start_token_id": 2,
            "encoder_layerdrop": 0.9,
        },
        ("WhisperFeatureExtractor", {"feature_size": 16, "chunk_length": 1}),
        sizes=False,
    ),
    "audio-spectrogram-transformer": Tiny(
        "ASTConfig",
        "ASTModel",
        "ASTForAudioClassification",
        {
            **TRANSFORMER,
            "max_length": 64,
            "num_mel_bins": 16,
            "patch_size": 8,
            "time_stride": 4,
            "frequency_stride": 4,
        },
        (
            "ASTFeatureExtractor",
            {"num_mel_bins": 16, "max_length": 64, "mean": -3.0, "std": 2.0},
        ),
        sizes=False,
    ),
    "moonshine": Tiny(
        "MoonshineConfig",
        "MoonshineModel",
        "MoonshineForConditionalGeneration",
        {
            "hidden_size": 16,
            "intermediate_size": 32,
            "encoder_num_hidden_layers": 3,
            "decoder_num_hidden_layers": 1,
            "encoder_num_attention_heads": 2,
            "decoder_num_attention_heads": 2,
            "vocab_size": 20,
        },
        ("Wav2Vec2FeatureExtractor", {"do_normalize": False}),
        sizes=False,
    ),
    "parakeet_encoder": Tiny(
        "ParakeetEncoderConfig", "ParakeetEncoder", "ParakeetEncoder", PARAKEET, MELS, sizes=False
    ),
    "parakeet_ctc": _parakeet("CTC"),
    "parakeet_tdt": _parakeet("TDT", durations=[0, 1]),
    "parakeet_rnnt": _parakeet("RNNT"),
    "speecht5": Tiny(
        "SpeechT5Config",
        "SpeechT5ForSpeechToText",
        "SpeechT5ForSpeechToText",
        {
            **{key: value for key, value in WAVEFORM.items() if key in SPEECHT5},
            "hidden_size": 16,
            "encoder_layers": 3,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 32,
            "vocab_size": 20,
            "encoder_layerdrop": 0.9,
        },
        ("SpeechT5FeatureExtractor", {}),
        sizes=False,
        variants=({}, {"feat_extract_norm": "layer"}),
    ),
}

#: Each of `FAMILIES` but those that differ only in what lies around Parakeet's encoder.
EACH = [name for name in FAMILIES if not name.startswith("parakeet") or name == "parakeet_ctc"]


def of_transformers(name: str) -> Any:
    """A class by name; importing takes 2 s."""
    return getattr(importlib.import_module("transformers"), name)
