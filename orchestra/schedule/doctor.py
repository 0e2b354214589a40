"""What may be wrong with this machine or workspace. Looks only; imports none of what it names."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestra import __version__
from orchestra.gpu import snapshot
from orchestra.gpu.probe import Prober
from orchestra.gpu.status import GpuState
from orchestra.registry.location import network_type, registry_location
from orchestra.registry.store import open_registry
from orchestra.schedule.conductor import conductor_is_alive
from orchestra.schedule.preflight import LEAST_FREE_BYTES
from orchestra.settings import user_settings, user_settings_path, workspace_settings
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.identity import user_name
from orchestra.workspace import Workspace, find_workspace

_LEAST_SHM_BYTES = 64 * 2**20
# Loader workers and a rank's files need descriptors; 1024, a usual limit, is too few for many.
_ENOUGH_FILES = 4096
_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


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
    return [
        *_software(),
        *_machine(),
        *_limits(),
        *_gpus(),
        *_logout(),
        _settings(user_settings_path(), user_settings),
        *_workspace(start, runs_dir),
    ]


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


def _logout() -> Iterator[Check]:
    """Whether logging out kills what a user has started, or takes its heartbeats."""
    from orchestra.schedule.logout import fate, removes_ipc

    found = fate(user_name())
    yield Check("logout", found.survives, found.detail, found.hint)
    if removes_ipc(user_name(), os.getuid()):
        yield Check(
            "RemoveIPC",
            True,
            "logind unlinks heartbeats when you have logged out; runs go on, a new attempt makes "
            "new pages",
            f"`loginctl enable-linger {user_name()}`, or RemoveIPC=no in logind.conf, keeps them",
        )


def _settings(path: Path, read: Callable[[], object]) -> Check:
    try:
        read()
    except UsageError as error:
        return Check("settings", False, str(error), "mend that file")
    return Check("settings", True, os.fspath(path) if path.exists() else f"none: no {path}")


def _limits() -> Iterator[Check]:
    """Limits of this shell, which its runs inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < _ENOUGH_FILES
    more = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    hint = f"with many loader workers: `ulimit -n {more}` before `orchestra run`" if few else ""
    yield Check("open files", True, "unlimited" if soft < 0 else f"{soft} per process", hint)
    limit = _memory_limit()
    if limit is not None:
        yield Check("memory limit", True, f"{limit / 2**30:.1f} GiB for this control group")


def _memory_limit() -> int | None:
    """Bytes that a container or unit may use, where that is less than the machine has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _MEMORY_LIMITS:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        if limit < total:
            return limit
    return None


def _workspace(start: Path | None, runs_dir: Path | None) -> Iterator[Check]:
    try:
        workspace = find_workspace(start, runs_dir)
    except NotFoundError as error:
        yield Check("workspace", True, f"none: {error}")
        return
    yield Check("workspace", True, str(workspace.root))
    path = workspace.root / "orchestra.toml"
    yield _settings(path, partial(workspace_settings, workspace.root))
    yield _disk(workspace)
    yield _locks(workspace)
    yield _conductor(workspace)
    try:
        yield _registry(workspace)
    except OrchestraError as error:
        yield Check("registry", False, str(error))


def _disk(workspace: Workspace) -> Check:
    folder = _existing(workspace.runs.path)
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    detail = f"{free / 2**30:.1f} GiB free at {workspace.runs.path}"
    if not writable:
        return Check("runs", False, f"{folder} can't be written to", "choose one with --runs-dir")
    enough = free >= LEAST_FREE_BYTES
    return Check("runs", enough, detail, "" if enough else "make room: `orchestra gc`")


def _locks(workspace: Workspace) -> Check:
    """Locks tell whether a supervisor lives; on a network disk they are the server's word."""
    network = network_type(_existing(workspace.runs.path))
    if network is None:
        return Check("locks", True, "on a local disk")
    hint = "keep runs on a local disk (--runs-dir), or start and resume a run on one machine only"
    return Check("locks", True, f"{workspace.runs.path} is on {network}", hint)


def _conductor(workspace: Workspace) -> Check:
    alive = workspace.runs.path.is_dir() and conductor_is_alive(workspace.runs)
    return Check("conductor", True, "at work" if alive else "none: it is there while runs are")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _registry(workspace: Workspace) -> Check:
    if not workspace.runs.path.is_dir():
        return Check("registry", True, "no runs yet")
    location = registry_location(workspace.runs)
    with open_registry(workspace.runs) as registry:
        count = len(registry.list_runs())
    notes = "; ".join(registry.notes)
    return Check("registry", True, f"{count} runs in {location.path}", notes)
