"""Several real processes want one model; one is killed while it downloads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from orchestra.fetch import url_place
from orchestra.fetch.cache import Cache
from orchestra.fetch.model import Wanted, open_model
from tests.fetch.conftest import Told, model_files
from tests.fetch.server import Hold, Server

FILES = model_files()
BASE = "/models/mine/"
WEIGHTS = BASE + "model.safetensors"
SENT = 200_000
"""Bytes of the weights before the server waits."""


@pytest.fixture
def held(server: Server) -> Hold:
    """The weights' first download stops in the middle."""
    server.files |= {BASE + name: content for name, content in FILES.items()}
    hold = Hold(SENT)
    server.faults[WEIGHTS] = [hold]
    return hold


@contextmanager
def fetching(server: Server) -> Iterator[subprocess.Popen[str]]:
    """A process that fetches the model, with what it needs of the environment alone."""
    command = [sys.executable, "-m", "orchestra.upstreams.describe", server.url + BASE, "--weights"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def partial_bytes(cache: Cache) -> int:
    files = [p for p in (cache.root / "partial").glob("*") if p.suffix != ".json"]
    return sum(path.stat().st_size for path in files)


def test_processes_that_want_one_thing_get_one_file(
    server: Server, held: Hold, own_cache: Cache
) -> None:
    with fetching(server) as first:
        assert held.reached.wait(60)
        with fetching(server) as second, fetching(server) as third:
            for waiting in (second, third):
                assert waiting.stderr is not None
                said = waiting.stderr.readline()
                assert f"another process is fetching {server.url}{WEIGHTS}" in said
            held.go.set()
            answers = [json.loads(p.communicate(timeout=60)[0]) for p in (first, second, third)]
    assert answers[0] == answers[1] == answers[2]
    assert server.bodies(WEIGHTS) == 1
    folder = Path(answers[0]["folder"])
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_without_the_lock_each_downloads_for_itself(
    server: Server, held: Hold, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""
    monkeypatch.setattr(url_place, "only_one", lambda *_: nullcontext(False))
    with fetching(server):
        assert held.reached.wait(60)
        wanted = Wanted(server.url + BASE)
        open_model(wanted, told=told.sentences.append, web=told.web()).folder()
        held.go.set()
    assert server.bodies(WEIGHTS) > 1  # they also disturb each other


def test_what_was_killed_in_mid_download_goes_on_from_there(
    server: Server, held: Hold, own_cache: Cache
) -> None:
    with fetching(server) as killed:
        assert held.reached.wait(60)
        until(lambda: partial_bytes(own_cache) == SENT)
        killed.kill()
        assert killed.wait(60) == -9
    whole = [path.stat().st_size for path in (own_cache.root / "blobs").iterdir()]
    assert len(whole) == 2  # the JSON files; no part is taken for the weights
    with fetching(server) as again:
        document = json.loads(again.communicate(timeout=60)[0])
    assert server.requests[-1].headers["Range"] == f"bytes={SENT}-"
    path = Path(document["folder"]) / "model.safetensors"
    assert path.read_bytes() == FILES["model.safetensors"]
    assert list((own_cache.root / "partial").iterdir()) == []
