"""A tuned model saved as a folder gives the features it gave in training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams import build_upstream
from orchestra.upstreams.base import Features, Upstream
from orchestra.upstreams.save import save_upstream
from orchestra.wire.errors import UsageError
from tests.upstreams.conftest import SaveModel
from tests.upstreams.tiny import FAMILIES


def tuned(source: Path, **choice: object) -> tuple[HuggingFaceConfig, Upstream]:
    """As after some steps: every parameter has moved."""
    config = HuggingFaceConfig.model_validate(
        {"name": "tiny", "source": str(source), "trainable": True, **choice}
    )
    upstream = build_upstream(config)
    with torch.no_grad():
        for parameter in upstream.parameters():
            parameter.mul_(1.1)
    return config, upstream.eval()


def hidden_states(upstream: Upstream) -> list[Tensor]:
    torch.manual_seed(0)
    wavs = 0.1 + 0.1 * torch.randn(2, 8000)
    with torch.no_grad():
        features: Features = upstream(wavs, torch.tensor([8000, 5000]))
    return features.layers["hidden_states"]


def reloaded(folder: Path, **choice: object) -> Upstream:
    """Trainable: torch computes WavLM's attention by another kernel where nothing is, which
    rounds otherwise."""
    document = {"name": "again", "source": str(folder), "trainable": True, **choice}
    return build_upstream(HuggingFaceConfig.model_validate(document)).eval()


@pytest.mark.parametrize(
    ("family", "large"), [*((name, False) for name in FAMILIES), ("wav2vec2", True)]
)
def test_the_folder_gives_the_same_features(
    save_model: SaveModel, tmp_path: Path, family: str, large: bool
) -> None:
    source = save_model(family, large=large)
    config, upstream = tuned(source)
    assert save_upstream(config, upstream.state_dict(), tmp_path / "saved") == []
    before, after = hidden_states(upstream), hidden_states(reloaded(tmp_path / "saved"))
    assert len(before) == len(after)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    pretrained = hidden_states(reloaded(source))
    assert not torch.equal(before[-1], pretrained[-1]), "a negative control"


@pytest.mark.parametrize(
    ("family", "large", "first"), [("wavlm", False, 2), ("wavlm", True, 2), ("whisper", False, 1)]
)
def test_a_model_that_was_cut_is_completed(
    save_model: SaveModel, tmp_path: Path, family: str, large: bool, first: int
) -> None:
    config, upstream = tuned(save_model(family, large=large), layers=1)
    added = save_upstream(config, upstream.state_dict(), tmp_path / "saved")
    assert {name.split(".")[first] for name in added} == {"1", "2"}
    again = hidden_states(reloaded(tmp_path / "saved", layers=1))
    assert torch.equal(hidden_states(upstream)[1], again[1])


def test_frozen_it_gives_them_too(save_model: SaveModel, tmp_path: Path) -> None:
    config, upstream = tuned(save_model("wavlm"))
    save_upstream(config, upstream.state_dict(), tmp_path / "saved")
    again = hidden_states(reloaded(tmp_path / "saved", trainable=False))
    for before, after in zip(hidden_states(upstream), again, strict=True):
        assert torch.allclose(before, after, atol=1e-5)


def test_how_waveforms_are_normalised_is_kept(save_model: SaveModel, tmp_path: Path) -> None:
    """Without the settings the family's default would be taken."""
    source = shutil.copytree(save_model("wav2vec2"), tmp_path / "source")
    (source / "preprocessor_config.json").write_text('{"do_normalize": true}')
    config, upstream = tuned(source)
    save_upstream(config, upstream.state_dict(), tmp_path / "saved")
    before = hidden_states(upstream)[-1]
    assert torch.equal(before, hidden_states(reloaded(tmp_path / "saved"))[-1])
    (tmp_path / "saved" / "preprocessor_config.json").unlink()
    assert not torch.equal(before, hidden_states(reloaded(tmp_path / "saved"))[-1])


def test_another_model_in_the_place_of_the_source_is_refused(
    save_model: SaveModel, tmp_path: Path
) -> None:
    _, upstream = tuned(save_model("wavlm"))
    config, _ = tuned(save_model("wavlm", hidden_size=8))
    with pytest.raises(UsageError, match="no longer the model that the run tuned"):
        save_upstream(config, upstream.state_dict(), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_saving_draws_nothing_and_says_nothing(
    save_model: SaveModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, upstream = tuned(save_model("hubert"))
    capfd.readouterr()
    before = torch.get_rng_state()
    save_upstream(config, upstream.state_dict(), tmp_path / "saved")
    assert torch.equal(before, torch.get_rng_state())
    assert capfd.readouterr() == ("", "")
