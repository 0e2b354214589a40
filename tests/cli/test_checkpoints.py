"""`orchestra checkpoints`: why each is kept, which are bad, those set aside, empty states."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import tomli_w

from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunFolder, RunsFolder
from tests.cli.conftest import Cli
from tests.wire.checkpoint_folders import make_checkpoint as save

POLICY = {"every": 10, "keep_last": 2, "keep_best": 2, "keep_every": 30}


@pytest.fixture
def run(cli: Cli) -> RunFolder:
    """A run of a registry, with a config and no checkpoint."""
    runs = RunsFolder(cli.root / "runs")
    with open_registry(runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 100, config_sha256="0"))
    folder = runs.run("r1")
    folder.path.mkdir()
    folder.job.config.write_text(tomli_w.dumps({"checkpoint": POLICY}))
    return folder


def test_no_checkpoint_yet_is_a_sentence(cli: Cli, run: RunFolder) -> None:
    assert cli.ok("checkpoints", "r1") == "no checkpoint yet: the first is saved after step 10\n"
    assert cli.json("checkpoints", "r1", "--verify")["checkpoints"] == []


def test_why_each_is_kept(cli: Cli, run: RunFolder) -> None:
    scores = {20: 3.0, 30: None, 40: 5.0, 50: 3.0, 60: 4.0, 70: 9.0}
    for step, score in scores.items():
        save(run.checkpoints, step, score)
    found: list[dict[str, Any]] = cli.json("checkpoints", "r1")["checkpoints"]
    assert {item["step"]: item["kept_as"] for item in found} == {
        70: ["last"], 60: ["last", "every"], 50: ["best 2"], 40: [], 30: ["every"], 20: ["best"],
    }  # fmt: skip
    assert [item["step"] for item in found] == sorted(scores, reverse=True)
    assert {item["state"] for item in found} == {"unverified"}
    header, newest, *_, oldest = cli.ok("checkpoints", "r1", "--verify").splitlines()
    assert " ".join(header.split()) == "STEP SCORE (WER) SIZE SAVED KEPT AS SHA256 STATE"
    assert newest.split()[:2] == ["70", "9"] and newest.endswith("good")
    assert " 1000 B " in newest and " best " in oldest
    manifest = (run.checkpoint(20) / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest()[:12] in oldest


def test_the_direction_counts_that_the_checkpoints_tell(cli: Cli, run: RunFolder) -> None:
    for step, score in {10: 3.0, 20: 9.0, 40: 5.0, 50: None}.items():
        save(run.checkpoints, step, score, direction="max")
    found = cli.json("checkpoints", "r1")["checkpoints"]
    assert {item["step"]: item["kept_as"] for item in found} == {
        50: ["last"], 40: ["last", "best 2"], 20: ["best"], 10: [],
    }  # fmt: skip


def test_bad_ones_are_named_and_end_with_1(cli: Cli, run: RunFolder) -> None:
    save(run.checkpoints, 10, None)
    flipped = save(run.checkpoints, 20, None) / "model.safetensors"
    flipped.write_bytes(b"x" * 1000)
    (save(run.checkpoints, 30, None) / "manifest.json").unlink()
    assert cli("checkpoints", "r1").returncode == 0, "nothing was verified"
    done = cli("checkpoints", "r1", "--verify")
    assert done.returncode == 1
    _, newest, middle, oldest = done.stdout.splitlines()
    assert "bad: cannot read" in newest and "manifest.json: No such file" in newest
    assert "model.safetensors was altered: its sha256 differs" in middle
    assert oldest.endswith("good")
    done = cli("checkpoints", "r1", "--verify", "--json")
    states = [item["state"] for item in json.loads(done.stdout)["checkpoints"]]
    assert (done.returncode, states) == (1, ["bad", "bad", "good"])


def test_those_set_aside_are_listed_below(cli: Cli, run: RunFolder) -> None:
    save(run.checkpoints, 10, None)
    bad = save(run.checkpoints / ".quarantine", 20, None)
    (bad / "reason.txt").write_text("model.safetensors was altered\n\x1b[2J")
    save(run.checkpoints / ".superseded" / "20260101-000000", 30, None)
    text = cli.ok("checkpoints", "r1", "--verify")
    assert "\x1b" not in text
    assert text.index("good") < text.index("Quarantined") < text.index("model.safetensors was")
    assert text.index("Quarantined") < text.index("Superseded") < text.index("20260101-000000")
    document = cli.json("checkpoints", "r1")
    assert document["quarantined"][0]["reason"].startswith("model.safetensors was altered")
    assert document["superseded"][0]["step"] == 30


def test_a_broken_config_is_a_sentence(cli: Cli, run: RunFolder) -> None:
    run.job.config.write_text("[checkpoint]\n")
    done = cli("checkpoints", "r1")
    assert done.returncode == 1
    assert "cannot read [checkpoint] in" in done.stderr and "every" in done.stderr
    assert len(done.stderr.splitlines()) == 1
