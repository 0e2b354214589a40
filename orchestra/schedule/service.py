"""A systemd user unit that runs `orchestra up` at boot. Writes that one file and enables it.

Touches nothing that needs another user's rights: lingering, without which a user's units start at
her login and end with it, is hers (or the administrator's) to switch on.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra.gpu.lease_file import FOLDER as LEASES
from orchestra.wire.errors import NotFoundError, OrchestraError
from orchestra.wire.identity import user_name
from orchestra.workspace import Workspace

LINGER = Path("/var/lib/systemd/linger")
_SYSTEMCTL_S = 10.0
# Where leases, a registry beside a network disk, and settings lie: whoever starts runs must agree.
_CARRIED = (LEASES, "XDG_STATE_HOME", "XDG_CONFIG_HOME")

_UNIT = """\
# Written by `orchestra service install`; `orchestra service uninstall` takes it back.
[Unit]
Description=orchestra up: go on with the runs of {description}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={command}
{environment}\
# Runs live in this unit's control group; stopping the unit, or one process that is out of memory,
# must not end them all.
KillMode=process
OOMPolicy=continue

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Done:
    """What was done with the unit; `notes`: sentences on what is left to do."""

    unit: Path
    enabled: bool
    notes: tuple[str, ...]


def install(workspace: Workspace) -> Done:
    """Write the unit, anew if need be, and enable it where systemd can be reached.

    Raises:
        OrchestraError: the file can't be written.
    """
    unit = unit_path(workspace)
    try:
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text(unit_text(workspace), encoding="utf-8")
    except OSError as error:
        raise OrchestraError(f"cannot write {unit}: {error.strerror}") from error
    enabled = _systemctl("daemon-reload") and _systemctl("enable", unit.name)
    notes = []
    if not enabled:
        commands = f"`systemctl --user daemon-reload` and `systemctl --user enable {unit.name}`"
        notes.append(f"systemd could not be reached from here: call {commands} in a login session")
    if not lingers():
        notes.append(
            "it starts at your login and ends with it: `loginctl enable-linger "
            f"{user_name()}` makes it start at boot (the administrator may have to)"
        )
    return Done(unit, enabled, tuple(notes))


def uninstall(workspace: Workspace) -> Done:
    """Disable the unit and remove it; runs go on.

    Raises:
        NotFoundError: there is none for this workspace.
        OrchestraError: the file can't be removed.
    """
    unit = unit_path(workspace)
    if not unit.is_file():
        raise NotFoundError(f"there is no {unit}: nothing to uninstall")
    disabled = _systemctl("disable", unit.name)
    try:
        unit.unlink()
    except OSError as error:
        raise OrchestraError(f"cannot remove {unit}: {error.strerror}") from error
    reloaded = _systemctl("daemon-reload")
    notes: tuple[str, ...] = ()
    if not (disabled and reloaded):
        link = unit.parent / "default.target.wants" / unit.name
        notes = (f"systemd could not be reached from here: remove {link} if it is there",)
    return Done(unit, False, notes)


def unit_path(workspace: Workspace) -> Path:
    """One unit for each workspace and runs folder, whatever they are called."""
    config = os.environ.get("XDG_CONFIG_HOME")
    base = Path(config) if config else Path.home() / ".config"
    name = re.sub(r"[^A-Za-z0-9_.]", "-", workspace.root.name) or "workspace"
    identity = f"{workspace.root}\n{workspace.runs.path}"
    key = hashlib.sha256(os.fsencode(identity)).hexdigest()[:6]
    return base / "systemd" / "user" / f"orchestra-{name}-{key}.service"


def unit_text(workspace: Workspace) -> str:
    """The unit file."""
    words = ["-P", "-m", "orchestra", "--workspace", os.fspath(workspace.root)]
    if workspace.runs.path != workspace.root / "runs":
        words += ["--runs-dir", os.fspath(workspace.runs.path)]
    environment = {name: os.environ[name] for name in _CARRIED if os.environ.get(name)}
    return _UNIT.format(
        description=_specifiers(re.sub(r"\s", " ", os.fspath(workspace.root))),
        command=command_line([sys.executable, *words, "up"]),
        environment="".join(
            f"Environment={_quoted(f'{name}={value}')}\n" for name, value in environment.items()
        ),
    )


def command_line(words: Sequence[str]) -> str:
    """The words as systemd reads an ExecStart (systemd.service(5), "Command lines")."""
    # It expands $NAME in arguments, but not in the program's path.
    first, *rest = words
    return " ".join([_quoted(first), *(_quoted(word).replace("$", "$$") for word in rest)])


def lingers() -> bool:
    """Whether this user's units run without a login."""
    return (LINGER / user_name()).exists()


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{_specifiers(escaped)}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _systemctl(*words: str) -> bool:
    """Whether the user's systemd did it."""
    program = shutil.which("systemctl")
    if program is None:
        return False
    try:
        done = subprocess.run(
            [program, "--user", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SYSTEMCTL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
