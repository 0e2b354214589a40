"""Loading pretrained models: outputs, layers, precision, clear errors; see test_families.py too."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams import build_upstream
from orchestra.upstreams.base import Features, Upstream
from orchestra.upstreams.featurizer import Featurizer
from orchestra.wire.errors import DataError, NotFoundError, UsageError

SaveModel = Callable[..., Path]

LENGTHS = torch.tensor([16000, 9000, 400, 12345, 5000, 16000, 720, 3333])
BATCH_NORM = {"large": True, "conv_pos_batch_norm": True}


def waveforms() -> Tensor:
    """Eight rows with an offset and loud garbage in the padding."""
    generator = torch.Generator().manual_seed(3)
    wavs = 0.1 * torch.randn(8, 17000, generator=generator) + 0.02
    padding = torch.arange(17000) >= LENGTHS.unsqueeze(1)
    return wavs.masked_fill(padding, 5.0)


def load(source: Path, **choice: object) -> Upstream:
    return build_upstream(configured(source, **choice))


def configured(source: Path, **choice: object) -> HuggingFaceConfig:
    return HuggingFaceConfig.model_validate({"name": "tiny", "source": str(source), **choice})


def worst_difference(upstream: Callable[[Tensor, Tensor], Features]) -> float:
    """Largest difference between batch 8 and batch 1, over all layers and valid frames."""
    wavs = waveforms()
    together = upstream(wavs, LENGTHS)
    worst = 0.0
    for row, samples in enumerate(LENGTHS.tolist()):
        alone = upstream(wavs[row : row + 1, :samples], LENGTHS[row : row + 1])
        frames = int(alone.lengths[0])
        assert frames == int(together.lengths[row]) == alone.layers["hidden_states"][0].shape[1]
        for key, layers in together.layers.items():
            for layer, single in zip(layers, alone.layers[key], strict=True):
                worst = max(worst, float((layer[row, :frames] - single[0]).abs().max()))
    return worst


def stock(folder: Path, family: str) -> Callable[[Tensor, Tensor], Features]:
    """The model as transformers runs it: zeroed padding and an attention mask, nothing else."""
    model = stock_model(folder, family)

    @torch.no_grad()
    def forward(wavs: Tensor, lengths: Tensor) -> Features:
        wavs = wavs[:, : int(lengths.max())]
        mask = torch.arange(wavs.shape[1]) < lengths.unsqueeze(1)
        output = model(wavs * mask, attention_mask=mask.long(), output_hidden_states=True)
        frames = model._get_feat_extract_output_lengths(lengths)
        return Features({"hidden_states": list(output.hidden_states)}, frames)

    return forward


def stock_model(folder: Path, family: str) -> Any:
    names = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel"}
    model_class = getattr(importlib.import_module("transformers"), names[family])
    return model_class.from_pretrained(folder).eval()


def test_hubert_with_a_batch_norm_does_not_depend_on_padding(save_model: SaveModel) -> None:
    assert worst_difference(load(save_model("hubert", **BATCH_NORM))) < 1e-5


def test_the_stock_batch_norm_does_depend_on_padding(save_model: SaveModel) -> None:
    folder = save_model("hubert", **BATCH_NORM)
    assert worst_difference(stock(folder, "hubert")) > 0.01


def test_one_utterance_gives_what_a_hubert_with_a_batch_norm_gives(save_model: SaveModel) -> None:
    family, folder = "hubert", save_model("hubert", **BATCH_NORM)
    wav = waveforms()[:1, :9000]
    ours = load(folder)(wav, torch.tensor([9000])).layers["hidden_states"]
    extractor = importlib.import_module("transformers").AutoFeatureExtractor.from_pretrained(folder)
    values = extractor(wav[0].numpy(), sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        reference = stock_model(folder, family)(values, output_hidden_states=True)
    expected = [*reference.hidden_states[:-1], reference.last_hidden_state]
    assert len(ours) == 4
    for layer, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(layer, other, atol=2e-5, rtol=0)


@pytest.mark.parametrize("layers", [0, 2, 3, -1])
def test_one_layer_equals_that_of_the_whole_large_model(save_model: SaveModel, layers: int) -> None:
    folder = save_model("wavlm", large=True)
    wavs = waveforms()
    config = configured(folder, layers=layers)
    upstream = build_upstream(config)
    features, _ = Featurizer(config, upstream)(upstream(wavs, LENGTHS))
    every = load(folder)(wavs, LENGTHS).layers["hidden_states"]
    torch.testing.assert_close(features[0], every[layers][0])


def test_the_last_hidden_state_is_another_output(save_model: SaveModel) -> None:
    folder = save_model("wav2vec2", large=True)
    config = configured(folder, key="last_hidden_state")
    upstream = build_upstream(config)
    featurizer = Featurizer(config, upstream)
    features, _ = featurizer(upstream(waveforms(), LENGTHS))
    every = load(folder)(waveforms(), LENGTHS).layers["hidden_states"]
    torch.testing.assert_close(features[0], every[-1][0])
    assert not list(featurizer.parameters())


def test_a_frozen_model_never_leaves_eval_mode(save_model: SaveModel) -> None:
    upstream = load(save_model("hubert")).train()
    assert not any(module.training for module in upstream.modules())
    assert not any(parameter.requires_grad for parameter in upstream.parameters())
    wavs = waveforms().requires_grad_()
    first, second = upstream(wavs, LENGTHS), upstream(wavs, LENGTHS)
    assert torch.equal(first.layers["hidden_states"][-1], second.layers["hidden_states"][-1])
    assert not first.layers["hidden_states"][-1].requires_grad


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm", "unispeech-sat"])
@pytest.mark.parametrize("choice", [{}, {"layers": 0}, {"layers": 2}], ids=str)
def test_every_trainable_parameter_of_large_models_gets_a_gradient(
    save_model: SaveModel, family: str, choice: dict[str, object]
) -> None:
    # DDP waits for ever for a parameter without one; layer drop and masking would leave some out.
    config = configured(save_model(family, large=True), trainable=True, **choice)
    upstream = build_upstream(config)
    features, _ = Featurizer(config, upstream)(upstream(waveforms()[:3], LENGTHS[:3]))
    features.pow(3).sum().backward()
    trained = [(n, p) for n, p in upstream.named_parameters() if p.requires_grad]
    assert trained
    assert [name for name, parameter in trained if parameter.grad is None] == []


def test_a_trainable_model_follows_train_and_eval(save_model: SaveModel) -> None:
    upstream = load(save_model("wav2vec2"), trainable=True)
    wavs = waveforms()
    torch.manual_seed(0)
    upstream.train()
    first, second = (upstream(wavs, LENGTHS).layers["hidden_states"][-1] for _ in range(2))
    assert not torch.equal(first, second)
    upstream.eval()
    first, second = (upstream(wavs, LENGTHS).layers["hidden_states"][-1] for _ in range(2))
    assert torch.equal(first, second)


def _bfloat16_error() -> float:
    """Of a grouped convolution, as the positional embedding is one: plain torch on this CPU."""
    waves, kernel = torch.randn(2, 16, 400), torch.randn(16, 8, 16) / 11
    plain = torch.nn.functional.conv1d(waves, kernel, groups=2)
    half = torch.nn.functional.conv1d(waves.bfloat16(), kernel.bfloat16(), groups=2)
    return float((half.float() - plain).abs().max())


def test_autocast_keeps_features_close(save_model: SaveModel) -> None:
    if (error := _bfloat16_error()) > 0.1:
        pytest.skip(f"torch's own bfloat16 convolution is off by {error:.1f} on this CPU (oneDNN)")
    upstream = load(save_model("wavlm"))
    plain = upstream(waveforms(), LENGTHS).layers["hidden_states"][-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = upstream(waveforms(), LENGTHS).layers["hidden_states"][-1]
    torch.testing.assert_close(mixed[0].float(), plain[0], atol=0.2, rtol=0)


def test_too_short_an_utterance_is_refused(save_model: SaveModel) -> None:
    with pytest.raises(DataError, match="399 samples, but one frame needs"):
        load(save_model("wavlm"))(torch.zeros(2, 800), torch.tensor([399, 800]))


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_half_precision_files_are_widened(save_model: SaveModel, tmp_path: Path) -> None:
    folder = copied(save_model("wav2vec2"), tmp_path)
    weights = load_file(folder / "model.safetensors")
    halves = {name: tensor.half() for name, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    assert {p.dtype for p in load(folder).parameters()} == {torch.float32}


def test_weights_that_lack_a_parameter_are_refused(save_model: SaveModel, tmp_path: Path) -> None:
    folder = copied(save_model("wav2vec2"), tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layers.1.feed_forward.output_dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lack 1 parameters.*layers\.1\.feed_forward"):
        load(folder)


def test_damaged_weights_are_refused(save_model: SaveModel, tmp_path: Path) -> None:
    folder = copied(save_model("wav2vec2"), tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"model\.safetensors: it has \d+ bytes where its header"):
        load(folder)


def test_weights_of_another_shape_are_refused(save_model: SaveModel, tmp_path: Path) -> None:
    folder = copied(save_model("wav2vec2"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(UsageError, match=r"intermediate_dense\.bias has another shape"):
        load(folder)


def test_a_config_transformers_refuses(save_model: SaveModel, tmp_path: Path) -> None:
    folder = copied(save_model("wav2vec2"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "conv_dim": [8]}))
    with pytest.raises(UsageError, match=r"config\.json of .* can't be used") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_an_output_it_does_not_have_is_refused(save_model: SaveModel) -> None:
    with pytest.raises(UsageError, match=r"upstream.key = 'logits'.*'last_hidden_state'"):
        load(save_model("hubert"), key="logits")


def test_a_layer_it_does_not_have_is_refused(save_model: SaveModel) -> None:
    with pytest.raises(UsageError, match=r"upstream.layers = 4.*between -4 and 3"):
        load(save_model("hubert"), layers=4)


def test_a_hub_id_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NotFoundError, match=r"some-lab/none is not in the local cache"):
        load(Path("some-lab/none"))
