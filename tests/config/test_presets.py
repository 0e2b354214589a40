"""Presets by name or file; the workspace's own go first."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config.presets import find_preset, list_presets
from orchestra.wire.errors import UsageError

from .conftest import Write


def test_workspace_presets_shadow_built_in_ones(workspace: Path, write: Write) -> None:
    write("debug", "# My own\n")
    presets = {preset.name: preset for preset in list_presets(workspace)}
    debug, example, toy = presets["debug"], presets["example"], presets["toy"]
    assert debug.path == workspace / "presets" / "debug.toml"
    assert debug.shadows is not None
    assert (debug.builtin, debug.description) == (False, "My own")
    assert example.builtin
    assert example.description.startswith("Tones in noise")
    assert (toy.builtin, toy.shadows) == (False, None)


def test_find_by_name_and_by_file(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text("")
    assert find_preset("toy", workspace).path == workspace / "presets" / "toy.toml"
    monkeypatch.chdir(tmp_path)
    assert find_preset("mine.toml", workspace).path == (tmp_path / "mine.toml").resolve()
    assert find_preset("presets/toy.toml", workspace).name == "toy"
    with pytest.raises(UsageError, match="did you mean 'toy'"):
        find_preset("toi", workspace)
    with pytest.raises(UsageError, match=r"no file '\./toi\.toml'"):
        find_preset("./toi.toml", workspace)
    with pytest.raises(UsageError, match=r"'/' is a folder: give a preset's name or TOML file"):
        find_preset("/", workspace)
