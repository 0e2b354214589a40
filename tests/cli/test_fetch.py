"""`orchestra fetch`, as a process, from an imitated hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.fetch.conftest import model_files
from tests.fetch.server import HubModel, Server, serving

COMMIT = "a" * 40
FILES = model_files()


@pytest.fixture
def hub(cli: Cli, tmp_path: Path) -> Iterator[Server]:
    with serving() as server:
        server.models["lab/tiny"] = HubModel({COMMIT: FILES}, {"main": COMMIT})
        cli.environment |= {
            "HF_ENDPOINT": server.url,
            "NO_PROXY": "127.0.0.1,localhost",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "HF_HUB_CACHE": str(tmp_path / "hub"),
        }
        yield server


def test_a_model_is_fetched_anywhere_and_told(cli: Cli, hub: Server, tmp_path: Path) -> None:
    done = cli("fetch", "lab/tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder, commit = done.stdout.splitlines()[:2]
    assert Path(folder).is_relative_to(tmp_path / "cache" / "orchestra")
    assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert commit == f"lab/tiny at commit {COMMIT}"
    for content in FILES.values():
        assert hashlib.sha256(content).hexdigest() in done.stdout
    cli.environment["ORCHESTRA_OFFLINE"] = "1"
    asked = len(hub.requests)
    document = cli.json("fetch", "lab/tiny")
    assert document["folder"] == folder and document["commit"] == COMMIT
    assert len(hub.requests) == asked


def test_what_cannot_be_fetched(cli: Cli, hub: Server) -> None:
    done = cli("fetch", "fbank")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has nothing to fetch" in done.stderr
    done = cli("fetch", "lab/none")
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "no model 'lab/none'" in done.stderr
