"""A user's own upstream from its file to a run's record."""

from __future__ import annotations

import hashlib
import json
import tomllib

import pytest

from tests.cli.conftest import SHORT, Cli

MINE = """
import torch
from orchestra.upstreams.base import Features, Upstream

class Energy(Upstream):
    stride, min_samples = 160, 160
    def __init__(self, power=2):
        super().__init__()
        self.power = power
    def layer_dims(self, key):
        return [1]
    def extract(self, wavs, lengths):
        frames = wavs.unfold(1, 160, 160).abs().pow(self.power).mean(2, keepdim=True)
        return Features({"hidden_states": [frames]}, lengths // 160)
"""


def test_the_list_has_own_upstreams_and_shapes_of_the_known(cli: Cli) -> None:
    (cli.root / "upstreams").mkdir()
    (cli.root / "upstreams" / "energy.py").write_text(MINE)
    rows = {row["name"]: row for row in cli.json("upstreams")}
    assert rows["energy"] == {
        "name": "energy",
        "kind": "file",
        "family": "own",
        "source": "upstreams/energy.py",
        "layers": None,
        "dim": None,
        "stride": None,
        "stride_ms": None,
        "aliases": [],
        "shadowed_by": None,
    }
    wavlm = {"layers": 13, "dim": 768, "stride": 320, "stride_ms": 20.0, "family": "wavlm"}
    assert rows["wavlm"].items() >= wavlm.items()
    assert rows["wavlm"]["aliases"] == ["wavlm_base_plus"]
    assert rows["wavlm"]["shadowed_by"] is None
    lines = cli.ok("upstreams").splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.split()[:1] == ["energy"] for line in lines)


def test_the_list_says_which_folder_stands_for_a_hubs_model(cli: Cli) -> None:
    (cli.root / "mine").mkdir()
    (cli.root / "mine" / "config.json").touch()
    alias = '[upstreams]\n"facebook/hubert-base-ls960" = "mine"\n'
    (cli.root / "orchestra.toml").write_text(alias)
    folder = str(cli.root / "mine")
    rows = {row["name"]: row for row in cli.json("upstreams")}
    shadowed = rows["hubert"]
    assert (shadowed["source"], shadowed["shadowed_by"]) == ("facebook/hubert-base-ls960", folder)
    assert (shadowed["layers"], shadowed["dim"], shadowed["stride_ms"]) == (None, None, None)
    assert rows["hubert_large_ll60k"]["shadowed_by"] is None
    assert f"{folder} in the place of facebook/hubert-base-ls960" in cli.ok("upstreams")


@pytest.mark.tasks
def test_a_run_trains_on_the_snapshots_copy_and_records_its_hash(cli: Cli) -> None:
    (cli.root / "upstreams").mkdir()
    file = cli.root / "upstreams" / "energy.py"
    file.write_text(MINE)
    own = ("--upstream", "energy", "--set", "upstream.options.power=1")
    cli.ok("run", *SHORT, *own, "--name", "first")
    file.write_text("raise RuntimeError")  # what is evaluated is what was trained
    cli.ok("eval", "first", "--split", "valid")
    run = cli.json("show", "first")
    folder = cli.root / "runs" / run["id"]
    config = tomllib.loads((folder / "config.toml").read_text())["upstream"]
    assert (config["source"], config["options"]) == ("upstreams/energy.py", {"power": 1})
    sha256 = hashlib.sha256(MINE.encode()).hexdigest()
    for number in ("0001", "0002"):  # at the end of the run, and the one asked for
        metrics = json.loads((folder / "evaluations" / number / "metrics.json").read_text())
        assert metrics["upstream"] == {"source": "upstreams/energy.py", "file_sha256": sha256}
