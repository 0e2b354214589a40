"""A workspace with one small task and a complete base preset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

CONFIG = '''
from __future__ import annotations
from pathlib import Path
from typing import Annotated, Literal
from pydantic import Field, PositiveInt
from orchestra.config.schema import Table, TaskConfig

class Big(Table):
    kind: Literal["big"] = "big"
    width: PositiveInt = 1024

class Small(Table):
    kind: Literal["small"] = "small"
    stack: PositiveInt = 3

class Config(TaskConfig):
    kind: Literal["toy"] = "toy"
    word: str = "hello"
    """What is said."""
    lexicon: Path | None = None
    either: int | str = 0
    head: Annotated[Big | Small, Field(discriminator="kind")] = Big()
'''

BASE = """\
# All that a run needs
[upstream]
kind = "fbank"

[batch]
seconds = 10.0
max_micro_seconds = 4.0

[optim]
lr = 1e-3

[train]
max_steps = 100
eval_every = 50

[checkpoint]
every = 50
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workspace"
    (folder / "tasks" / "toy").mkdir(parents=True)
    (folder / "tasks" / "toy" / "config.py").write_text(CONFIG)
    (folder / "presets").mkdir()
    (folder / "presets" / "toy.toml").write_text(BASE)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def write(workspace: Path) -> Write:
    """Write `presets/<name>.toml`."""

    def write(name: str, text: str) -> Path:
        path = workspace / "presets" / f"{name}.toml"
        path.write_text(text)
        return path

    return write
