"""What `doctor` says about settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.schedule.doctor import Check, examine
from orchestra.workspace import init_workspace


def settings(root: Path) -> list[Check]:
    return [check for check in examine(root, None) if check.name == "settings"]


def test_a_mistake_in_the_settings_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = init_workspace(tmp_path / "workspace").root
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    mine, its = tmp_path / "config" / "orchestra" / "settings.toml", root / "orchestra.toml"
    assert all(check.ok for check in settings(root))
    mine.parent.mkdir(parents=True)
    mine.write_text("[notify]\ncomand = 'x'\n")
    its.write_text("[gpus]\nlimit = 'x'\n")
    found = settings(root)
    assert [check.ok for check in found] == [False, False]
    for check, path in zip(found, (mine, its), strict=True):
        assert check.detail.startswith(f"{path}: ") and check.hint
