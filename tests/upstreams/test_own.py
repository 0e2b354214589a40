"""A user's own upstream: what its file may hold, and what is said when it breaks a promise."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from orchestra.config.schema import FileConfig
from orchestra.upstreams import build_upstream, own
from orchestra.upstreams.base import Upstream
from orchestra.upstreams.describe import describe_own
from orchestra.upstreams.featurizer import Featurizer
from orchestra.upstreams.own import save_own
from orchestra.wire.errors import DataError, NotFoundError, UsageError
from orchestra.wire.job import CODE

GOOD = """
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orchestra.upstreams.base import Features, Upstream, valid_mask


@dataclass
class Helper:
    size: int


class Mine(Upstream):
    stride = 160
    min_samples = 160

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.project = nn.Linear(Helper(160).size, dim)

    def layer_dims(self, key: str) -> list[int]:
        return [self.project.out_features] * 2

    def extract(self, wavs: Tensor, lengths: Tensor) -> Features:
        frames = self.project(wavs.unfold(1, 160, 160))
        return Features({"hidden_states": [frames, frames.relu()]}, lengths // 160)
"""
Write = Callable[[str], FileConfig]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Its argument as upstreams/mine.py of a snapshot."""
    monkeypatch.setenv(CODE, str(tmp_path))

    def save(text: str, **keys: Any) -> FileConfig:
        path = tmp_path / "upstreams" / "mine.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return FileConfig(name="mine", source="upstreams/mine.py", **keys)

    return save


def run(upstream: Upstream) -> Any:
    return upstream(torch.ones(2, 480), torch.tensor([480, 330]))


def test_its_layers_are_summed_and_its_options_given(write: Write) -> None:
    config = write(GOOD).model_copy(update={"options": {"dim": 6}})
    upstream = build_upstream(config)
    featurizer = Featurizer(config, upstream)
    features, lengths = featurizer(run(upstream))
    assert (features.shape, lengths.tolist()) == ((2, 3, 6), [3, 2])
    assert featurizer.weights is not None and len(featurizer.weights) == 2
    assert not any(parameter.requires_grad for parameter in upstream.parameters())
    with pytest.raises(DataError, match="one frame needs 160"):
        upstream(torch.ones(1, 100), torch.tensor([100]))


def test_the_example_of_the_docs_works(write: Write) -> None:
    documented = (own.__doc__ or "").split("\n\n", 2)[-1]
    config = write(textwrap.dedent(documented))
    features = run(build_upstream(config.model_copy(update={"options": {"decibels": True}})))
    assert features.lengths.tolist() == [3, 2]
    assert features.layers["hidden_states"][0].abs().max() < 1e-5, "ones have 0 dB"


def test_trainable_it_has_gradients_and_one_layer_may_be_chosen(write: Write) -> None:
    config = write(GOOD).model_copy(update={"trainable": True, "layers": -1})
    upstream = build_upstream(config)
    features, _ = Featurizer(config, upstream)(run(upstream))
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in upstream.parameters())


def test_tuned_it_is_saved_with_its_file(write: Write, tmp_path: Path) -> None:
    config = write(GOOD).model_copy(update={"trainable": True})
    upstream = build_upstream(config)
    save_own(config, upstream.state_dict(), tmp_path, tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert torch.equal(saved["project.weight"], upstream.state_dict()["model.project.weight"])
    assert (tmp_path / "saved" / "mine.py").read_text() == GOOD


def test_it_is_known_by_the_hash_of_its_file(write: Write) -> None:
    upstream = build_upstream(write(GOOD))
    sha256 = hashlib.sha256(GOOD.encode()).hexdigest()
    assert upstream.identity() == {"source": "upstreams/mine.py", "file_sha256": sha256}
    assert build_upstream(write(GOOD + "\n")).identity() != upstream.identity()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("class Mine", "class Mine(Upstream): ...\n\nclass Other"), "has 2: Mine, Other"),
        (("(Upstream)", "(nn.Module)"), "has none"),
        (("import torch\n", "import torcch\n"), "ModuleNotFoundError: No module named 'torcch'"),
        (("class Mine(", "class Mine(("), "SyntaxError"),
        (("def layer_dims", "def layer_dimz"), "abstract"),
        (("@dataclass\n", "1 / 0\n@dataclass\n"), "mine.py, line 10: ZeroDivisionError"),
        (("@dataclass\n", "raise SystemExit(3)\n@dataclass\n"), "line 10: SystemExit: 3"),
        (
            ("self.project = nn", "raise RuntimeError('no\\nfile')\n        self.project = nn"),
            r"line 21: Mine\(\*\*upstream.options\): RuntimeError: no file",
        ),
        (("super().__init__()", "pass"), "assign module before Module.__init__"),
        (
            ("super().__init__()\n        self.project", "project"),
            r"__init__ does not call super\(\).__init__\(\)",
        ),
        (("return [self.", "return {}[key] + [self."), "line 24: .*KeyError: 'hidden_states'"),
        (("stride = 160", "stride = 0.5"), "stride is 0.5, not a number of samples"),
        (("min_samples = 160", ""), "min_samples is None"),
        (("out_features] * 2", "out_features]"), r"have the shapes .*says \(2, frames, 4\)"),
        (('{"hidden_states":', '{"states":'), r"layers\['hidden_states'\] have the shapes \[\]"),
        (("lengths // 160", "lengths"), "lengths reach from 330 to 480; there are 3 frames"),
        (("lengths // 160", "lengths - 330"), "lengths reach from 0 to"),
        (("lengths // 160", "lengths / 160"), "torch.float32, not"),
        (("return Features(", "return ("), "extract gave a tuple, not Features"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_breaks_a_promise_names_the_file(
    write: Write, change: tuple[str, str], said: str
) -> None:
    assert change[0] in GOOD
    with pytest.raises(UsageError, match=said) as caught:
        run(build_upstream(write(GOOD.replace(*change))))
    assert str(caught.value).startswith("upstreams/mine.py")
    assert "\n" not in str(caught.value)


EXTRACT = "frames = self.project(wavs.unfold(1, 160, 160))"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("stride = 160", "stride = 320"), "16000 samples gave 100 frames, but stride = 320"),
        (("stride = 160", "stride = 80"), "gave 100 frames, but stride = 80"),
        (("return [self.project.out_features]", "return [7]"), r"says \(2, frames, 7\)"),
        (("frames.relu()]", "frames / 0]"), "layer 1 of 16000 samples of noise is not finite"),
        (("(wavs.unfold", "((wavs - wavs.mean()).unfold"), "layer 0 .* moves by .* in a batch"),
        ((", lengths // 160", ", (lengths // 160).clamp(max=len(wavs) + 98)"), "has 99 .* 100 in"),
        (("= self.project(wavs", "= self.projekt(wavs"), "line 27: AttributeError: .*'projekt'"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_it_is_tried_before_a_run_relies_on_it(
    write: Write, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    assert change[0] in GOOD
    with pytest.raises(UsageError, match=said) as caught:
        describe_own(write(GOOD.replace(*change)), tmp_path)
    assert str(caught.value).startswith("upstreams/mine.py")


@pytest.mark.parametrize("stop", ["assert wavs.is_cuda", "raise RuntimeError('needs a GPU')"])
def test_what_runs_on_gpus_alone_is_not_tried(write: Write, tmp_path: Path, stop: str) -> None:
    text = GOOD.replace(EXTRACT, f"{stop}\n        {EXTRACT}")
    assert describe_own(write(text), tmp_path)["layers"] == 2


def test_what_it_prints_is_not_taken_for_its_description(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD.replace(EXTRACT, f"print('extracting')\n        {EXTRACT}")
    described = describe_own(write(f"print('imported')\n{text}"), tmp_path)
    assert (described["dim"], described["stride"]) == (4, 160)
    out, err = capsys.readouterr()
    assert not out
    assert "imported\nextracting\n" in err


def test_unknown_options_are_refused(write: Write) -> None:
    config = write(GOOD).model_copy(update={"options": {"dims": 6}})
    with pytest.raises(UsageError, match=r"Mine\(\*\*upstream.options\): TypeError: .*'dims'"):
        build_upstream(config)


def test_a_file_that_git_ignored_is_not_in_the_snapshot(write: Write, tmp_path: Path) -> None:
    config = write(GOOD)
    (tmp_path / config.source).unlink()
    with pytest.raises(NotFoundError, match=r"no upstream upstreams/mine\.py.*git ignores"):
        build_upstream(config)
