from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestra.registry import location
from orchestra.registry.location import network_type
from orchestra.registry.store import open_registry
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.folders import RunsFolder


def types(monkeypatch: pytest.MonkeyPatch, *network: Path) -> None:
    """Pretend that these folders, and what is below them, are on NFS."""

    def look(folder: Path) -> str | None:
        return "NFS" if any(folder.is_relative_to(path) for path in network) else None

    monkeypatch.setattr(location, "network_type", look)


def test_a_local_disk_is_local(tmp_path: Path) -> None:
    assert network_type(tmp_path) is None
    with pytest.raises(OrchestraError, match="No such file"):
        network_type(tmp_path / "gone")


def test_the_type_comes_from_statfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # procfs is a file system that every test machine has; its magic number stands in for NFS's.
    monkeypatch.setitem(location.NETWORK_TYPES, 0x9FA0, "procfs")
    assert network_type(Path("/proc")) == "procfs"
    assert network_type(tmp_path) is None


def test_on_a_network_the_registry_is_local_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = RunsFolder(tmp_path / "nfs" / "runs")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    types(monkeypatch, tmp_path / "nfs")
    with open_registry(runs) as registry:
        path = registry._database.path
        assert path.is_relative_to(tmp_path / "state" / "orchestra")
        assert "NFS" in registry.notes[0]
        assert str(path) in registry.notes[0]
    assert not runs.registry.exists()
    with open_registry(runs) as again:
        assert again._database.path == path
    with open_registry(RunsFolder(tmp_path / "nfs" / "other")) as other:
        assert other._database.path != path


def test_a_home_on_the_network_is_no_place_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    local = tmp_path / "local"
    monkeypatch.setattr(location, "_LOCAL", local)
    types(monkeypatch, tmp_path / "nfs", tmp_path / "home")
    with open_registry(RunsFolder(tmp_path / "nfs")) as registry:
        assert registry._database.path.is_relative_to(local)
        assert oct(registry._database.path.parent.stat().st_mode)[-3:] == "700"
    types(monkeypatch, tmp_path)
    with pytest.raises(UsageError, match="XDG_STATE_HOME"):
        open_registry(RunsFolder(tmp_path / "nfs"))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OrchestraError, match="cannot make"):
        open_registry(RunsFolder(tmp_path / "runs"))
