"""The families of models that transformers loads, and what each needs to be an upstream.

One row per family: its class in transformers, its adapter here, how its config.json tells its
shape. Adapters mend what looks at padding, each in its own module. No torch here, so that a model
can be described without importing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestra.upstreams.families import shapes
from orchestra.upstreams.families.shapes import ConfigFile, Shape

# No mask probability, no mask embedding: it would be a parameter without a gradient. The adapter
# is a decoder's front end whose strided convolutions look at padding.
_PLAIN = {
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "add_adapter": False,
    "use_intermediate_ffn_before_adapter": False,
}


@dataclass(frozen=True)
class Family:
    """One `model_type` of config.json."""

    model: tuple[str, str]
    """Module below transformers.models, and class."""
    adapter: tuple[str, str]
    """Module of this package, and class derived from `base.PretrainedUpstream`."""
    shape: Callable[[ConfigFile], Shape]
    takes_waveforms: bool = True
    """Whether preprocessor_config.json may ask for waveforms of zero mean and unit variance."""
    overrides: Mapping[str, Any] = field(default_factory=lambda: _PLAIN)
    """Keys of config.json that have these values here."""
    renames: Mapping[str, str] | None = None
    """Regular expressions on names of weights, for parts of larger models."""
    part: str | None = None
    """Where config.json of a larger model has that of this part."""


_PARAKEET = Family(
    ("parakeet.modeling_parakeet", "ParakeetEncoder"),
    ("parakeet", "ParakeetUpstream"),
    shapes.of_parakeet,
    takes_waveforms=False,
    overrides={"layerdrop": 0.0},
)
_PARAKEET_PART = replace(_PARAKEET, renames={r"^encoder\.": ""}, part="encoder_config")

FAMILIES: dict[str, Family] = {
    "wav2vec2": Family(
        ("wav2vec2.modeling_wav2vec2", "Wav2Vec2Model"),
        ("waveform", "WaveformUpstream"),
        shapes.of_waveforms,
    ),
    "hubert": Family(
        ("hubert.modeling_hubert", "HubertModel"),
        ("waveform", "WaveformUpstream"),
        shapes.of_waveforms,
    ),
    "wavlm": Family(
        ("wavlm.modeling_wavlm", "WavLMModel"),
        ("waveform", "WaveformUpstream"),
        shapes.of_waveforms,
    ),
    "unispeech": Family(
        ("unispeech.modeling_unispeech", "UniSpeechModel"),
        ("waveform", "WaveformUpstream"),
        shapes.of_waveforms,
    ),
    "unispeech-sat": Family(
        ("unispeech_sat.modeling_unispeech_sat", "UniSpeechSatModel"),
        ("waveform", "WaveformUpstream"),
        shapes.of_waveforms,
    ),
    "data2vec-audio": Family(
        ("data2vec.modeling_data2vec_audio", "Data2VecAudioModel"),
        ("data2vec", "Data2VecUpstream"),
        shapes.of_layer_normed_waveforms,
    ),
    "wav2vec2-conformer": Family(
        ("wav2vec2_conformer.modeling_wav2vec2_conformer", "Wav2Vec2ConformerModel"),
        ("conformer", "ConformerUpstream"),
        shapes.of_waveforms,
    ),
    "sew": Family(
        ("sew.modeling_sew", "SEWModel"),
        ("squeezed", "SewUpstream"),
        shapes.of_squeezed_waveforms,
    ),
    "sew-d": Family(
        ("sew_d.modeling_sew_d", "SEWDModel"),
        ("squeezed", "SewDUpstream"),
        shapes.of_squeezed_waveforms,
    ),
    "wav2vec2-bert": Family(
        ("wav2vec2_bert.modeling_wav2vec2_bert", "Wav2Vec2BertModel"),
        ("wav2vec2_bert", "Wav2Vec2BertUpstream"),
        shapes.of_wav2vec2_bert,
        takes_waveforms=False,
    ),
    "whisper": Family(
        ("whisper.modeling_whisper", "WhisperEncoder"),
        ("whisper", "WhisperUpstream"),
        shapes.of_whisper,
        takes_waveforms=False,
        overrides={"encoder_layerdrop": 0.0},
        renames={r"^(model\.)?encoder\.": ""},
    ),
    "audio-spectrogram-transformer": Family(
        (
            "audio_spectrogram_transformer.modeling_audio_spectrogram_transformer",
            "ASTModel",
        ),
        ("spectrogram_transformer", "SpectrogramTransformerUpstream"),
        shapes.of_spectrogram_transformer,
        takes_waveforms=False,
        overrides={},
    ),
    "moonshine": Family(
        ("moonshine.modeling_moonshine", "MoonshineEncoder"),
        ("moonshine", "MoonshineUpstream"),
        shapes.of_moonshine,
        takes_waveforms=False,
        overrides={},
        renames={r"^(model\.)?encoder\.": ""},
    ),
    "parakeet_encoder": _PARAKEET,
    "parakeet_ctc": _PARAKEET_PART,
    "parakeet_tdt": _PARAKEET_PART,
    "parakeet_rnnt": _PARAKEET_PART,
    "speecht5": Family(
        ("speecht5.modeling_speecht5", "SpeechT5EncoderWithSpeechPrenet"),
        ("speecht5", "SpeechT5Upstream"),
        shapes.of_speecht5,
        overrides={
            "encoder_layerdrop": 0.0,
            "apply_spec_augment": False,
            "mask_time_prob": 0.0,
            "mask_feature_prob": 0.0,
        },
        renames={r"^(speecht5\.)?encoder\.": ""},
    ),
}
"""By `model_type`. DistilHuBERT is a hubert; XLS-R and MMS are wav2vec2."""
