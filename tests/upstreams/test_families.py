"""The contract that every family of pretrained models keeps, with negative controls.

Padding changes nothing; lengths are those of the frames; layers are what transformers gives for one
utterance; every trainable parameter is reached.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams import build_upstream, families
from orchestra.upstreams.base import Features, Upstream
from orchestra.upstreams.families import (
    data2vec,
    moonshine,
    parakeet,
    spectrogram_transformer,
    speecht5,
    wav2vec2_bert,
    whisper,
)
from orchestra.upstreams.families.base import PretrainedUpstream
from orchestra.upstreams.featurizer import Featurizer
from tests.benchmarks import padding
from tests.upstreams.conftest import SaveModel
from tests.upstreams.tiny import EACH, FAMILIES, of_transformers

KEY = "hidden_states"
LENGTHS = torch.tensor([16000, 9000, 2000, 12345, 5000, 3333])
LONG = torch.tensor([40000, 16000, 25001, 33333])
WINDOWED = ("whisper", "audio-spectrogram-transformer")
WAVEFORM = [name for name, tiny in FAMILIES.items() if tiny.extractor is None]
VARIANTS = [
    pytest.param(family, {"large": large, **changes}, id="-".join([family, *marks]))
    for family, tiny in FAMILIES.items()
    for changes in tiny.variants
    for large in ((False, True) if tiny.sizes and not changes else (False,))
    for marks in [[*(["large"] if large else []), *map(str, changes.values())]]
]


def waveforms(lengths: Tensor) -> Tensor:
    """Noise with an offset, and loud garbage in the padding."""
    generator = torch.Generator().manual_seed(3)
    samples = int(lengths.max()) + 1000
    wavs = 0.1 * torch.randn(len(lengths), samples, generator=generator) + 0.02
    return wavs.masked_fill(torch.arange(samples) >= lengths.unsqueeze(1), 5.0)


def configured(source: Path, **choice: object) -> HuggingFaceConfig:
    return HuggingFaceConfig.model_validate({"name": "tiny", "source": str(source), **choice})


def load(source: Path, **choice: object) -> Upstream:
    return build_upstream(configured(source, **choice))


def worst_difference(
    upstream: Callable[[Tensor, Tensor], Features], lengths: Tensor = LENGTHS
) -> float:
    """Largest difference between the batch and each row alone, over layers and valid frames."""
    wavs = waveforms(lengths)
    together = upstream(wavs, lengths)
    worst = 0.0
    for row, samples in enumerate(lengths.tolist()):
        alone = upstream(wavs[row : row + 1, :samples], lengths[row : row + 1])
        frames = int(alone.lengths[0])
        assert frames == int(together.lengths[row]) <= alone.layers[KEY][0].shape[1]
        for layer, single in zip(together.layers[KEY], alone.layers[KEY], strict=True):
            worst = max(worst, float((layer[row, :frames] - single[0, :frames]).abs().max()))
    return worst


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


def test_the_contract_covers_every_family() -> None:
    assert FAMILIES.keys() == families.FAMILIES.keys()
    measured = {families.FAMILIES[name].model for name in padding.SIZES}
    assert measured == {family.model for family in families.FAMILIES.values()}, "the benchmark"


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
def test_padding_never_changes_features(
    save_model: SaveModel, family: str, changes: dict[str, Any]
) -> None:
    assert worst_difference(load(save_model(family, **changes))) < 1e-5


@pytest.mark.parametrize("family", WINDOWED)
def test_nor_does_it_where_utterances_are_longer_than_the_models_window(
    save_model: SaveModel, family: str
) -> None:
    assert worst_difference(load(save_model(family)), LONG) < 1e-5


@pytest.mark.parametrize(
    ("family", "large"),
    [
        *((family, False) for family in WAVEFORM),
        # Without the group norm: their depthwise convolutions and averages over pairs.
        *((family, True) for family in ("wav2vec2-conformer", "sew", "sew-d")),
    ],
)
def test_the_stock_model_does_depend_on_padding(
    save_model: SaveModel, family: str, large: bool
) -> None:
    """As transformers runs it: zeroed padding and an attention mask."""
    model = stock(save_model(family, large=large), family)

    def forward(wavs: Tensor, lengths: Tensor) -> Features:
        wavs = wavs[:, : int(lengths.max())]
        mask = torch.arange(wavs.shape[1]) < lengths.unsqueeze(1)
        output = model(wavs * mask, attention_mask=mask.long(), output_hidden_states=True)
        frames = model._get_feat_extract_output_lengths(lengths)
        return Features({KEY: list(output.hidden_states)}, frames // factor)

    factor = getattr(model.config, "squeeze_factor", 1)
    assert worst_difference(forward) > 1e-3


def _unmasked(lengths: Tensor, size: int) -> Tensor:
    return torch.ones(len(lengths), size, dtype=torch.bool)


@pytest.mark.parametrize(
    ("family", "module", "mend", "control"),
    [
        ("data2vec-audio", data2vec, "zero_before", lambda *_: None),
        ("speecht5", speecht5, "zero_before", lambda *_: None),
        ("moonshine", moonshine, "MaskedGroupNorm", lambda norm, _: norm),
        ("moonshine", moonshine, "valid_mask", _unmasked),
        ("parakeet_ctc", parakeet, "valid_mask", _unmasked),
        ("wav2vec2-bert", wav2vec2_bert, "valid_mask", _unmasked),
        ("whisper", whisper, "create_bidirectional_mask", lambda **_: None),
        ("whisper", whisper, "zero_padding", lambda frames, _: frames),
        (
            "audio-spectrogram-transformer",
            spectrogram_transformer,
            "zero_padding",
            lambda frames, _: frames,
        ),
    ],
)
def test_without_its_mend_a_family_depends_on_padding(
    save_model: SaveModel,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    module: Any,
    mend: str,
    control: Any,
) -> None:
    monkeypatch.setattr(module, mend, control)
    assert worst_difference(load(save_model(family))) > 1e-4


def stock(folder: Path, family: str) -> Any:
    model = of_transformers(FAMILIES[family].model).from_pretrained(folder).eval()
    return model.get_encoder() if family in ("moonshine", "speecht5") else model


def extracted(folder: Path, family: str, wav: Tensor, **arguments: Any) -> Any:
    tiny = FAMILIES[family]
    name = tiny.extractor[0] if tiny.extractor else "Wav2Vec2FeatureExtractor"
    extractor = of_transformers(name).from_pretrained(folder)
    return extractor(wav.numpy(), sampling_rate=16000, return_tensors="pt", **arguments)


def of_one_utterance(folder: Path, family: str, wav: Tensor) -> list[Tensor]:
    """transformers' hidden states, the last one as the model returns it; squeezed ones as blocks
    return them."""
    output = stock(folder, family)(**extracted(folder, family, wav), output_hidden_states=True)
    if family.startswith("sew"):
        return list(output.hidden_states)
    return [*output.hidden_states[:-1], output.last_hidden_state]


@pytest.mark.parametrize("samples", [9000, 9170])  # an even and an odd number of frames
@pytest.mark.parametrize(
    ("family", "changes"), [v for v in VARIANTS if v.values[0] not in WINDOWED]
)
def test_one_utterance_gives_what_transformers_gives(
    save_model: SaveModel, family: str, changes: dict[str, Any], samples: int
) -> None:
    folder = save_model(family, **changes)
    wav = waveforms(torch.tensor([samples]))[0, :samples]
    ours = load(folder)(wav.unsqueeze(0), torch.tensor([samples]))
    expected = of_one_utterance(folder, family, wav)
    frames = int(ours.lengths[0])
    # Our spectra are float32, those of transformers' extractors float64.
    atol = 2e-5 if family in WAVEFORM else 1e-4
    assert len(ours.layers[KEY]) == 4
    for layer, other in zip(ours.layers[KEY], expected, strict=True):
        torch.testing.assert_close(layer[:, :frames], other[:, :frames], atol=atol, rtol=0)


@pytest.mark.parametrize("samples", [16000, 9000])
def test_whisper_gives_what_a_model_of_the_utterances_length_gives(
    save_model: SaveModel, samples: int
) -> None:
    folder = save_model("whisper")
    wav = waveforms(torch.tensor([samples]))[0, :samples]
    ours = load(folder)(wav.unsqueeze(0), torch.tensor([samples]))
    encoder = stock(folder, "whisper").encoder
    frames = samples // 320
    weights = encoder.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][:frames]
    config = of_transformers("WhisperConfig").from_pretrained(folder)
    config.max_source_positions = frames
    shorter = type(encoder)(config).eval()
    shorter.load_state_dict(weights)
    features = extracted(folder, "whisper", wav, padding=False).input_features
    expected = shorter(features, output_hidden_states=True).hidden_states
    assert ours.lengths.tolist() == [frames]
    for layer, other in zip(ours.layers[KEY], expected, strict=True):
        torch.testing.assert_close(layer, other, atol=2e-5, rtol=0)


def test_ast_gives_the_columns_of_transformers_patches(save_model: SaveModel) -> None:
    family = "audio-spectrogram-transformer"
    folder = save_model(family)
    wav = waveforms(torch.tensor([9000]))[0, :9000]
    ours = load(folder)(wav.unsqueeze(0), torch.tensor([9000]))
    for layer, other in zip(ours.layers[KEY], of_one_utterance(folder, family, wav), strict=True):
        # 3 rows of 15 columns behind two tokens, row by row.
        rows = [other[:, 2 + 15 * row : 2 + 15 * (row + 1)] for row in range(3)]
        torch.testing.assert_close(layer, sum(rows) / 3, atol=2e-5, rtol=0)
    mel_frames = (9000 - 400) // 160 + 1
    assert ours.lengths.tolist() == [(mel_frames - 8) // 4 + 1]


def test_whisper_knows_no_peak_but_that_of_its_own_frames(save_model: SaveModel) -> None:
    """The frame behind the last one, which transformers drops, would have it."""
    lengths = torch.tensor([16000, 8000])
    wavs = 1e-5 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    wavs[1, 7980:8000] *= 1e5
    upstream = load(save_model("whisper"))
    together, alone = upstream(wavs, lengths), upstream(wavs[1:, :8000], lengths[1:])
    before, after = (found.layers[KEY][0][-1, :25] for found in (together, alone))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [40000, 10000])  # the second leaves AST a rest without a frame
@pytest.mark.parametrize(("family", "hop"), [("whisper", 16000), (WINDOWED[1], 15 * 640)])
def test_a_long_utterance_is_its_windows_one_behind_the_other(
    save_model: SaveModel, family: str, hop: int, samples: int
) -> None:
    upstream = load(save_model(family))
    assert isinstance(upstream, PretrainedUpstream)
    wav = waveforms(torch.tensor([samples]))[:, :samples]
    whole = upstream(wav, torch.tensor([samples]))
    size = hop if family == "whisper" else 63 * 160 + 400
    parts = []
    for begin in range(0, samples, hop):
        part = wav[:, begin : begin + size]
        if part.shape[1] < upstream.min_samples:
            break
        found = upstream(part, torch.tensor([part.shape[1]]))
        parts.append(found.layers[KEY][2][:, : int(found.lengths[0])])
    expected = torch.cat(parts, 1)
    assert whole.lengths.tolist() == [expected.shape[1]]
    frames = whole.layers[KEY][2][:, : expected.shape[1]]
    torch.testing.assert_close(frames, expected, atol=1e-5, rtol=0)
    if family != "whisper":
        assert expected.shape[1] == ((samples - 400) // 160 + 1 - 8) // 4 + 1


@pytest.mark.parametrize("family", EACH)
def test_shapes_are_known_before_any_audio(save_model: SaveModel, family: str) -> None:
    upstream = load(save_model(family))
    features = upstream(waveforms(LENGTHS), LENGTHS)
    dims = [layer.shape[2] for layer in features.layers[KEY]]
    assert dims == upstream.layer_dims(KEY) == [16] * 4
    assert features.lengths.dtype == torch.int64
    # As many frames as strides, but for the ends' windows.
    assert ((features.lengths * upstream.stride - LENGTHS).abs() <= 4 * upstream.stride).all()
    least = torch.tensor([upstream.min_samples])
    assert upstream(waveforms(least), least).lengths.tolist() == [1]


@pytest.mark.parametrize("layers", [0, 1, -1])
@pytest.mark.parametrize("family", EACH)
def test_one_layer_equals_that_of_the_whole_model(
    save_model: SaveModel, family: str, layers: int
) -> None:
    folder = save_model(family)
    config = configured(folder, layers=layers)
    upstream = build_upstream(config)
    features, lengths = Featurizer(config, upstream)(upstream(waveforms(LENGTHS), LENGTHS))
    every = load(folder)(waveforms(LENGTHS), LENGTHS)
    frames = int(lengths[1])
    torch.testing.assert_close(features[1, :frames], every.layers[KEY][layers][1, :frames])
    blocks = upstream.get_submodule(f"model.{type(upstream).blocks}")  # type: ignore[attr-defined]
    assert len(blocks._modules) == {0: 1, 1: 1, -1: 3}[layers]


@pytest.mark.parametrize("family", EACH)
def test_the_last_hidden_state_is_an_output_of_its_own(save_model: SaveModel, family: str) -> None:
    folder = save_model(family)
    whole, last = load(folder), load(folder, key="last_hidden_state")
    features = last(waveforms(LENGTHS), LENGTHS)
    (layer,) = features.layers["last_hidden_state"]
    if family.startswith("sew"):
        wav = waveforms(LENGTHS)[1, :9000]
        output = stock(folder, family)(**extracted(folder, family, wav))
        frames = int(features.lengths[1])
        expected = output.last_hidden_state[0, :frames]
        assert (whole.stride, last.stride, frames) == (640, 320, 26)
    else:
        frames = int(features.lengths[1])
        expected = whole(waveforms(LENGTHS), LENGTHS).layers[KEY][-1][1, :frames]
    torch.testing.assert_close(layer[1, :frames], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("choice", [{}, {"layers": 1}, {"key": "last_hidden_state"}], ids=str)
@pytest.mark.parametrize("family", EACH)
def test_every_trainable_parameter_gets_a_gradient(
    save_model: SaveModel, family: str, choice: dict[str, object]
) -> None:
    # DDP waits for ever for a parameter without one; layer drop and masking would leave some out.
    config = configured(save_model(family), trainable=True, **choice)
    with torch.enable_grad():
        upstream = build_upstream(config).train()
        features, _ = Featurizer(config, upstream)(upstream(waveforms(LENGTHS), LENGTHS))
        features.pow(3).sum().backward()
    trained = [(n, p) for n, p in upstream.named_parameters() if p.requires_grad]
    assert len(trained) > 15
    assert [name for name, parameter in trained if parameter.grad is None] == []


@pytest.mark.parametrize("family", EACH)
def test_frozen_it_never_leaves_eval_mode(save_model: SaveModel, family: str) -> None:
    upstream = load(save_model(family)).train()
    assert not any(module.training for module in upstream.modules())
    assert not any(parameter.requires_grad for parameter in upstream.parameters())


@pytest.mark.parametrize("family", EACH)
def test_autocast_keeps_features_close(save_model: SaveModel, family: str) -> None:
    upstream = load(save_model(family))
    plain = upstream(waveforms(LENGTHS), LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = upstream(waveforms(LENGTHS), LENGTHS)
    frames = int(plain.lengths[1])
    before, after = (found.layers[KEY][-1][1, :frames].float() for found in (plain, mixed))
    # Not by how much: torch's own bfloat16 convolutions are off by 1 on some CPUs (oneDNN).
    assert torch.cosine_similarity(before.flatten(), after.flatten(), dim=0) > 0.5


@pytest.mark.parametrize("family", EACH)
def test_nothing_but_the_models_own_weights_is_saved(save_model: SaveModel, family: str) -> None:
    upstream = load(save_model(family))
    assert all(name.startswith("model.") for name in upstream.state_dict())
    assert upstream.identity().keys() == {"source", "weights_sha256", "config_sha256"}


def test_a_trainable_models_dropout_is_that_of_its_config(save_model: SaveModel) -> None:
    upstream = load(save_model("whisper", dropout=0.5), trainable=True).train()
    wavs, lengths = waveforms(LENGTHS[:1]), LENGTHS[:1]
    first, second = (upstream(wavs, lengths).layers[KEY][0] for _ in range(2))
    assert not torch.equal(first, second)
