from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra.registry.rows import NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.wire.folders import RunsFolder

MakeRun = Callable[..., NewRun]


@pytest.fixture
def runs(tmp_path: Path) -> RunsFolder:
    return RunsFolder(tmp_path / "runs")


@pytest.fixture
def registry(runs: RunsFolder) -> Iterator[Registry]:
    with open_registry(runs) as opened:
        yield opened


@pytest.fixture
def new_run() -> MakeRun:
    def make(run_id: str, name: str | None = None, created_at: float = 1000.0) -> NewRun:
        return NewRun(
            id=run_id,
            name=name or f"name-{run_id}",
            task="asr",
            upstream="fbank",
            created_at=created_at,
            max_steps=100,
            config_sha256="c" * 64,
            git_commit="1234",
            git_branch="main",
            git_dirty=True,
            git_tree="5678",
        )

    return make
