"""The unit file is what systemd wants, and is enabled where systemd can be reached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.schedule import service
from orchestra.schedule.service import command_line, install, uninstall, unit_path, unit_text
from orchestra.wire.errors import NotFoundError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.identity import user_name
from orchestra.workspace import Workspace

HARD = "my 100% work$pace"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("ORCHESTRA_LEASES", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / HARD
    root.mkdir()
    return Workspace(root, RunsFolder(root / "runs"))


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that succeeds, and the file in which it writes down how it was called."""
    calls = tmp_path / "calls"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return calls


def line(text: str, key: str) -> str:
    (found,) = [item for item in text.splitlines() if item.startswith(f"{key}=")]
    return found.removeprefix(f"{key}=")


def test_the_command_survives_spaces_percent_and_dollar(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    escaped = str(workspace.root).replace("%", "%%")
    text = unit_text(workspace)
    assert line(text, "ExecStart") == (
        f'"{sys.executable}" "-P" "-m" "orchestra" "--workspace" '
        f'"{escaped.replace("$", "$$")}" "up"'
    )
    assert line(text, "Description").endswith(escaped)
    assert line(text, "KillMode") == "process"
    assert (line(text, "Type"), line(text, "RemainAfterExit")) == ("oneshot", "yes")
    config = os.environ["XDG_CONFIG_HOME"].replace("%", "%%")
    assert line(text, "Environment") == f'"XDG_CONFIG_HOME={config}"'
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert "Environment" not in unit_text(workspace)


def test_quotes_backslashes_and_line_ends_are_escaped() -> None:
    assert command_line(["/p$y", 'a"b\\c\nd%$e']) == '"/p$y" "a\\"b\\\\c\\nd%%$$e"'


def test_another_runs_folder_and_the_leases_are_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRA_LEASES", "/a b/leases")
    monkeypatch.setenv("XDG_STATE_HOME", "/a b/state")
    elsewhere = Workspace(workspace.root, RunsFolder(Path("/big disk/runs")))
    text = unit_text(elsewhere)
    assert '"--runs-dir" "/big disk/runs" "up"' in line(text, "ExecStart")
    for given in ("ORCHESTRA_LEASES=/a b/leases", "XDG_STATE_HOME=/a b/state"):
        assert f'\nEnvironment="{given}"\n' in text
    assert unit_path(elsewhere) != unit_path(workspace)


def test_systemd_accepts_it(workspace: Workspace, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here")

    def verify(unit: Path) -> str:
        done = subprocess.run(
            [program, "--user", "verify", unit],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if "Failed to initialize manager" in done.stderr:
            pytest.skip(f"systemd-analyze can't work here: {done.stderr.strip()}")
        return done.stderr

    unit = install(workspace).unit
    assert unit.name not in verify(unit)
    # Negative control, and what it read was the command.
    unit.write_text(unit.read_text().replace(f'"{sys.executable}"', '"/no/such/python"'))
    assert "/no/such/python" in verify(unit)


def test_it_is_enabled_where_systemd_can_be_reached(
    workspace: Workspace, systemctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LINGER", tmp_path)
    (tmp_path / user_name()).touch()
    done = install(workspace)
    assert (done.enabled, done.notes) == (True, ())
    assert done.unit.read_text() == unit_text(workspace)
    assert systemctl.read_text() == f"--user daemon-reload\n--user enable {done.unit.name}\n"
    assert install(workspace) == done
    gone = uninstall(workspace)
    assert (gone.unit.exists(), gone.notes) == (False, ())
    assert f"--user disable {done.unit.name}\n--user daemon-reload\n" in systemctl.read_text()
    with pytest.raises(NotFoundError, match="nothing to uninstall"):
        uninstall(workspace)


def test_what_is_left_to_do_is_said(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no systemctl
    monkeypatch.setattr(service, "LINGER", tmp_path / "linger")
    done = install(workspace)
    assert not done.enabled and done.unit.is_file()
    first, second = done.notes
    assert f"`systemctl --user enable {done.unit.name}`" in first
    assert f"`loginctl enable-linger {user_name()}`" in second
    assert "default.target.wants" in uninstall(workspace).notes[0]


def test_a_systemctl_that_hangs_is_left(
    workspace: Workspace, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(os.environ["PATH"].split(":")[0]) / "systemctl"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(service, "_SYSTEMCTL_S", 0.2)
    assert not install(workspace).enabled
