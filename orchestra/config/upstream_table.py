"""The upstreams users know by name: S3PRL's names first, with what each of them is here.

Names, hub ids and shapes only: nothing is downloaded or loaded, and torch is never imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SAMPLES_PER_MS = 16


@dataclass(frozen=True)
class UpstreamInfo:
    """One known upstream."""

    name: str
    kind: str
    """Of its config: "huggingface", or a spectral kind."""
    family: str
    """Of models, as transformers calls it; "spectral" without weights."""
    source: str
    """Hub id; empty for what needs no weights."""
    layers: int
    """Hidden states offered to the weighted sum: the input of each block and the last output."""
    dim: int
    """Dimensions of one frame."""
    stride: int
    """Samples (16 kHz) from one frame to the next."""
    aliases: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of its config, where they are not the defaults of its kind."""

    @property
    def stride_ms(self) -> float:
        return self.stride / SAMPLES_PER_MS


def _spectral(name: str, kind: str, dim: int, *aliases: str, **options: Any) -> UpstreamInfo:
    return UpstreamInfo(name, kind, "spectral", "", 1, dim, 160, aliases, options)


def _model(
    family: str, name: str, source: str, layers: int, dim: int, *aliases: str, stride: int = 320
) -> UpstreamInfo:
    return UpstreamInfo(name, "huggingface", family, source, layers, dim, stride, aliases)


_KNOWN = (
    # cmvn is said in both, or the one would keep the other's.
    _spectral("fbank", "fbank", 240, "baseline", "fbank_cmvn", cmvn=True),
    _spectral("fbank_no_cmvn", "fbank", 240, cmvn=False),
    _spectral("mfcc", "mfcc", 39),
    _spectral("mel", "mel", 80),
    _spectral("linear", "linear", 201),
    _spectral("spectrogram", "spectrogram", 257),
    _model("wav2vec2", "wav2vec2", "facebook/wav2vec2-base", 13, 768, "wav2vec2_base_960"),
    _model("wav2vec2", "wav2vec2_large_960", "facebook/wav2vec2-large", 25, 1024),
    _model(
        "wav2vec2",
        "wav2vec2_large_ll60k",
        "facebook/wav2vec2-large-lv60",
        25,
        1024,
        "wav2vec2_large",
    ),
    _model(
        "wav2vec2",
        "wav2vec2_large_lv60_cv_swbd_fsh",
        "facebook/wav2vec2-large-robust",
        25,
        1024,
        "wav2vec2_large_robust",
    ),
    _model(
        "wav2vec2",
        "wav2vec2_large_voxpopuli_100k",
        "facebook/wav2vec2-large-100k-voxpopuli",
        25,
        1024,
        "wav2vec2_vox",
    ),
    _model("wav2vec2", "xlsr_53", "facebook/wav2vec2-large-xlsr-53", 25, 1024, "wav2vec2_xlsr"),
    _model("wav2vec2", "xls_r_300m", "facebook/wav2vec2-xls-r-300m", 25, 1024),
    _model("wav2vec2", "xls_r_1b", "facebook/wav2vec2-xls-r-1b", 49, 1280),
    _model("wav2vec2", "xls_r_2b", "facebook/wav2vec2-xls-r-2b", 49, 1920),
    _model("wav2vec2", "mms_300m", "facebook/mms-300m", 25, 1024),
    _model("wav2vec2", "mms_1b", "facebook/mms-1b", 49, 1280),
    _model(
        "wav2vec2-conformer",
        "wav2vec2_conformer_relpos",
        "facebook/wav2vec2-conformer-rel-pos-large",
        25,
        1024,
    ),
    _model(
        "wav2vec2-conformer",
        "wav2vec2_conformer_rope",
        "facebook/wav2vec2-conformer-rope-large",
        25,
        1024,
    ),
    _model("wav2vec2-bert", "wav2vec2_bert", "facebook/w2v-bert-2.0", 25, 1024),
    _model("hubert", "hubert", "facebook/hubert-base-ls960", 13, 768, "hubert_base"),
    _model("hubert", "hubert_large_ll60k", "facebook/hubert-large-ll60k", 25, 1024, "hubert_large"),
    _model("hubert", "hubert_xlarge_ll60k", "facebook/hubert-xlarge-ll60k", 49, 1280),
    _model("hubert", "distilhubert", "ntu-spml/distilhubert", 3, 768, "distilhubert_base"),
    _model("wavlm", "wavlm", "microsoft/wavlm-base-plus", 13, 768, "wavlm_base_plus"),
    _model("wavlm", "wavlm_base", "microsoft/wavlm-base", 13, 768),
    _model("wavlm", "wavlm_large", "microsoft/wavlm-large", 25, 1024),
    _model("unispeech", "unispeech_large", "microsoft/unispeech-large-1500h-cv", 25, 1024),
    # S3PRL's documents say base, its code takes base plus.
    _model(
        "unispeech-sat",
        "unispeech_sat",
        "microsoft/unispeech-sat-base-plus",
        13,
        768,
        "unispeech_sat_base_plus",
    ),
    _model("unispeech-sat", "unispeech_sat_base", "microsoft/unispeech-sat-base", 13, 768),
    _model("unispeech-sat", "unispeech_sat_large", "microsoft/unispeech-sat-large", 25, 1024),
    _model(
        "data2vec-audio", "data2vec", "facebook/data2vec-audio-base", 13, 768, "data2vec_base_960"
    ),
    _model("data2vec-audio", "data2vec_large_ll60k", "facebook/data2vec-audio-large", 25, 1024),
    _model("whisper", "whisper_tiny", "openai/whisper-tiny", 5, 384),
    _model("whisper", "whisper_base", "openai/whisper-base", 7, 512),
    _model("whisper", "whisper_small", "openai/whisper-small", 13, 768),
    _model("whisper", "whisper_medium", "openai/whisper-medium", 25, 1024),
    _model("whisper", "whisper_large_v3", "openai/whisper-large-v3", 33, 1280),
    _model("moonshine", "moonshine_tiny", "UsefulSensors/moonshine-tiny", 7, 288, stride=384),
    _model("moonshine", "moonshine_base", "UsefulSensors/moonshine-base", 9, 416, stride=384),
    _model("parakeet_ctc", "parakeet_ctc_1b", "nvidia/parakeet-ctc-1.1b", 43, 1024, stride=1280),
    _model("speecht5", "speecht5", "microsoft/speecht5_asr", 13, 768),
    _model(
        "audio-spectrogram-transformer",
        "ast",
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        13,
        768,
        stride=1600,
    ),
)

#: By name, in the order in which they are listed; aliases are found by `find_upstream`.
UPSTREAMS: dict[str, UpstreamInfo] = {info.name: info for info in _KNOWN}
BY_ALIAS: dict[str, UpstreamInfo] = {alias: info for info in _KNOWN for alias in info.aliases}

_NEAREST = {
    "mel": (
        *("apc", "vq_apc", "npc", "mockingjay", "audio_albert", "tera", "decoar", "decoar2"),
        *("spec_augment", "mos_apc", "mos_tera", "timit_posteriorgram"),
    ),
    "wav2vec2": (
        *("modified_cpc", "cpc", "wav2vec", "vq_wav2vec", "discretebert", "pase"),
        *("wav2vec2_base_s2st", "mos_wav2vec2"),
    ),
    "wav2vec2_conformer_relpos": ("wav2vec2_conformer_large_s2st",),
    "hubert": (
        *("hubert_base_robust_mgr", "mhubert_base_vp", "contentvec", "ms_hubert"),
        *("multires_hubert", "espnet_hubert", "cvhubert", "lighthubert"),
    ),
    "wavlm": ("wavlablm",),
    "ast": ("ssast", "mae_ast", "byol_a", "byol_s", "passt", "vggish"),
    "linear": ("stft_mag",),
}
#: Names of S3PRL's whose weights transformers can't load, and variants `NAME_...` of them; and the
#: nearest upstream here.
NOT_LOADABLE: dict[str, str] = {
    name: nearest for nearest, names in _NEAREST.items() for name in names
}

_ONES_OWN = (
    *("hf_wav2vec2_custom", "hf_hubert_custom", "customized_upstream"),
    *("distiller_local", "distiller_url"),
)


def find_upstream(name: str) -> UpstreamInfo | None:
    """The known upstream called `name` (or with that alias)."""
    return UPSTREAMS.get(name) or BY_ALIAS.get(name)


def nearest_to(name: str) -> str | None:
    """The upstream nearest to one of S3PRL's that can't be had here; None for any other name."""
    fitting = [known for known in NOT_LOADABLE if f"{name}_".startswith(f"{known}_")]
    return NOT_LOADABLE[max(fitting, key=len)] if fitting else None


def is_ones_own(name: str) -> bool:
    """Whether S3PRL calls weights of one's own so: here those are named themselves."""
    stem, _, suffix = name.rpartition("_")
    given = suffix in ("local", "url", "custom") and find_upstream(stem) is not None
    return given or name in _ONES_OWN
