"""What may be wrong with this machine or workspace. Looks only; imports none of what it names."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestra import __version__
from orchestra.gpu import snapshot
from orchestra.gpu.probe import Prober
from orchestra.gpu.status import GpuState
from orchestra.registry.location import registry_location
from orchestra.registry.store import open_registry
from orchestra.schedule.preflight import LEAST_FREE_BYTES
from orchestra.wire.errors import NotFoundError, OrchestraError
from orchestra.workspace import Workspace, find_workspace

_LEAST_SHM_BYTES = 64 * 2**20
_LOGIND = (Path("/etc/systemd/logind.conf"), Path("/usr/lib/systemd/logind.conf"))


@dataclass(frozen=True)
class Check:
    """One finding. `hint`: what to do, where there is something to do."""

    name: str
    ok: bool
    detail: str
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def examine(start: Path | None, runs_dir: Path | None) -> list[Check]:
    """All checks; those of the workspace only where there is one."""
    return [*_software(), *_machine(), *_gpus(), _logind(), *_workspace(start, runs_dir)]


def _software() -> Iterator[Check]:
    yield Check("orchestra", True, f"{__version__} in {Path(__file__).parent.parent}")
    yield Check("python", True, f"{platform.python_version()} at {sys.executable}")
    for package in ("torch", "transformers"):
        try:
            yield Check(package, True, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, False, "not installed", "install orchestra with its dependencies")
    git = shutil.which("git")
    if git is None:
        hint = "install git: without it runs have no commit on record"
        yield Check("git", False, "not found in PATH", hint)
    else:
        said = subprocess.run([git, "--version"], capture_output=True, text=True, check=False)
        yield Check("git", said.returncode == 0, said.stdout.strip().removeprefix("git version "))


def _machine() -> Iterator[Check]:
    cpus = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Check("cpu", True, f"{cpus} cores usable, {memory / 2**30:.0f} GiB memory")
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield Check(
            "/dev/shm", False, "can't be written to", "loader workers and heartbeats want it"
        )
        return
    free = shutil.disk_usage(shm).free
    yield Check(
        "/dev/shm",
        free >= _LEAST_SHM_BYTES,
        f"{free / 2**20:.0f} MiB free",
        "" if free >= _LEAST_SHM_BYTES else "in a container: start it with --shm-size=1g or more",
    )


def _gpus() -> Iterator[Check]:
    with Prober() as prober:
        now = snapshot.read(None, prober)
    if now.error is not None:
        hint = "see nvidia-smi" if now.is_broken else ""
        yield Check("gpus", not now.is_broken, f"none: {now.error}", hint)
        return
    yield Check("gpus", True, f"{len(now.gpus)}")
    for gpu in now.gpus:
        device, status = gpu.device, gpu.status
        yield Check(
            f"gpu {device.index}",
            status.state != GpuState.UNKNOWN,
            f"{device.name or '?'} {device.uuid}, {status.reason}",
        )


def _logind() -> Check:
    """Whether logging out kills what a user has started."""
    kills = False
    for path in _LOGIND:
        parser = ConfigParser(strict=False, interpolation=None)
        try:
            parser.read(path)
        except (OSError, ConfigError):
            continue
        if parser.has_option("Login", "KillUserProcesses"):
            kills = parser.getboolean("Login", "KillUserProcesses", fallback=False)
            break
    if kills:
        hint = "`loginctl enable-linger` lets runs live on, or start them in `systemd-run --user`"
        return Check("logout", False, "logind kills all processes of who logs out", hint)
    return Check("logout", True, "runs live on when you log out")


def _workspace(start: Path | None, runs_dir: Path | None) -> Iterator[Check]:
    try:
        workspace = find_workspace(start, runs_dir)
    except NotFoundError as error:
        yield Check("workspace", True, f"none: {error}")
        return
    yield Check("workspace", True, str(workspace.root))
    yield _disk(workspace)
    try:
        yield _registry(workspace)
    except OrchestraError as error:
        yield Check("registry", False, str(error))


def _disk(workspace: Workspace) -> Check:
    folder = workspace.runs.path
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    detail = f"{free / 2**30:.1f} GiB free at {workspace.runs.path}"
    if not writable:
        return Check("runs", False, f"{folder} can't be written to", "choose one with --runs-dir")
    enough = free >= LEAST_FREE_BYTES
    return Check("runs", enough, detail, "" if enough else "make room: `orchestra gc`")


def _registry(workspace: Workspace) -> Check:
    if not workspace.runs.path.is_dir():
        return Check("registry", True, "no runs yet")
    location = registry_location(workspace.runs)
    with open_registry(workspace.runs) as registry:
        count = len(registry.list_runs())
    notes = "; ".join(registry.notes)
    return Check("registry", True, f"{count} runs in {location.path}", notes)
