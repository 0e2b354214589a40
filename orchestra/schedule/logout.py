"""Whether runs survive their user's logout: what logind and the user's systemd would kill.

Reads the files that systemd reads, below a root that tests choose. Changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CONFIG = "systemd/logind.conf"
_LINGER = "var/lib/systemd/linger"
_LAST_SYSTEM_UID = 999  # logind spares root and system users
# Later folders win (logind.conf(5)); of the main file the first found in reverse counts.
_FOLDERS = ("usr/lib", "usr/local/lib", "run", "etc")
_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})
_SESSION = re.compile(r"/session-[^/]+\.scope(/|$)")
_MANAGER = re.compile(r"/user@\d+\.service(/|$)")


@dataclass(frozen=True)
class Fate:
    """What becomes of a process when its user logs out."""

    survives: bool
    detail: str
    hint: str = ""


def fate(user: str, root: Path = Path("/"), proc: Path = Path("/proc/self")) -> Fate:
    """What logging out would do to runs started from the process of `proc`."""
    if not (root / "run/systemd/system").is_dir():
        return Fate(
            True,
            "no systemd here (a container?): logging out kills nothing, the container's end all",
            "let the container's start call `orchestra up`: it goes on with what was at work",
        )
    group = _control_group(proc)
    lingers = (root / _LINGER / user).exists()
    linger = "" if lingers else f"`loginctl enable-linger {user}`, then "
    if _MANAGER.search(group):  # a user unit, or a terminal that the desktop started
        if lingers:
            return Fate(True, "runs started from here live on: the user's systemd lingers")
        return Fate(
            False,
            "runs started from here end with your last session: the user's systemd goes then",
            f"`loginctl enable-linger {user}` keeps it (the administrator may have to)",
        )
    if kills_user_processes(user, root):
        return Fate(
            False,
            "logind kills all processes of a session at its end (KillUserProcesses)",
            f"{linger}start runs by `systemd-run --user --scope orchestra run ...`; or ask the "
            f"administrator for KillExcludeUsers={user} in logind.conf",
        )
    if _SESSION.search(group):
        return Fate(True, "runs live on when you log out (KillUserProcesses=no)")
    return Fate(True, "runs live on when you log out (this is no session of logind)")


def kills_user_processes(user: str, root: Path = Path("/")) -> bool:
    """Whether logind ends what this user's session leaves, by logind.conf and its drop-ins."""
    settings = _settings(root)
    # Where it is not set at all, root is spared.
    if user in settings.get("KillExcludeUsers", "root").split():
        return False
    only = settings.get("KillOnlyUsers", "").split()
    if only:
        return user in only
    return settings.get("KillUserProcesses", "no").lower() in _TRUE


def removes_ipc(user: str, uid: int, root: Path = Path("/")) -> bool:
    """Whether logind unlinks what this user has in /dev/shm, once no session is left."""
    if not (root / "run/systemd/system").is_dir() or uid <= _LAST_SYSTEM_UID:
        return False
    if (root / _LINGER / user).exists():  # such a user is never gone
        return False
    return _settings(root).get("RemoveIPC", "yes").lower() in _TRUE


def _settings(root: Path) -> dict[str, str]:
    """Table [Login]: the main file, then all drop-ins by name, the last one wins."""
    mains = [path for folder in _FOLDERS if (path := root / folder / _CONFIG).is_file()]
    dropins: dict[str, Path] = {}
    for folder in _FOLDERS:  # one in /etc hides one of the same name elsewhere
        dropins |= {path.name: path for path in (root / folder / f"{_CONFIG}.d").glob("*.conf")}
    settings: dict[str, str] = {}
    for path in (*mains[-1:], *(dropins[name] for name in sorted(dropins))):
        settings |= _login_table(path)
    return settings


def _login_table(path: Path) -> dict[str, str]:
    """An unreadable file says nothing, as for systemd."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    table, settings = "", {}
    for line in map(str.strip, lines):
        if line.startswith("["):
            table = line
        elif table == "[Login]" and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            settings[name.strip()] = value.strip()
    return settings


def _control_group(proc: Path) -> str:
    """The path in systemd's own hierarchy: cgroup v2, or v1's name=systemd."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return ""
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    named = [path for number, names, path in parts if names == "name=systemd"]
    unified = [path for number, names, path in parts if (number, names) == ("0", "")]
    return (named or unified or [""])[0]
