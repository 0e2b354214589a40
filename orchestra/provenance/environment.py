"""What a run ran on: Python, packages, hardware, and those environment variables that matter.

Reads files and metadata; imports none of the packages. Variables are recorded by an allow-list,
so that no token or password is ever written down.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestra.wire.files import write_json
from orchestra.wire.folders import Job

VERSION = 1

_NAMES = {
    "CONDA_DEFAULT_ENV",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "ORCHESTRA_CACHE",
    "ORCHESTRA_OFFLINE",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "SLURM_JOB_ID",
    "TRANSFORMERS_OFFLINE",
    "TZ",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
}
_PREFIXES = ("CUBLAS_", "CUDA_", "CUDNN_", "GLOO_", "KMP_", "MKL_", "NCCL_", "OMP_", "TORCH_")
# Even under an allowed prefix.
_SECRET = re.compile("TOKEN|KEY|SECRET|PASS|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)
_CREDENTIALS_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def capture(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A JSON object: python, packages, machine, gpu_driver, variables."""
    return {
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "prefix": sys.prefix,
        },
        "packages": packages(),
        "machine": _machine(),
        "gpu_driver": _gpu_driver(),
        "variables": allowed(os.environ if environment is None else environment),
    }


def record_environment(job: Job) -> None:
    """Keep what this shell says for the job that is asked for from it (OrchestraError)."""
    write_json(job.environment, {"version": VERSION, "variables": allowed(os.environ)})


def packages() -> dict[str, str]:
    """Name -> version of every installed distribution; of two of one name, the imported one."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name, version = _name_and_version(distribution)
        found.setdefault(name, version)
    return dict(sorted(found.items()))


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be recorded, credentials in URLs cut out."""
    return {
        name: _CREDENTIALS_IN_URL.sub("", value)
        for name, value in sorted(environment.items())
        if is_recorded(name)
    }


def is_recorded(name: str) -> bool:
    """Whether a run's record tells this variable."""
    return (name in _NAMES or name.startswith(_PREFIXES)) and not _SECRET.search(name)


def _name_and_version(distribution: metadata.Distribution) -> tuple[str, str]:
    # The folder's name says it without parsing METADATA (a third of the time for 100 packages).
    folder = getattr(distribution, "_path", None)
    if isinstance(folder, Path) and folder.name.endswith(".dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        if version:
            return name.replace("_", "-").lower(), version
    return distribution.name.replace("_", "-").lower(), distribution.version


def _machine() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": _first_match(Path("/proc/cpuinfo"), r"^model name\s*:\s*(.+)$"),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _gpu_driver() -> str | None:
    """The NVIDIA kernel driver's version; None without one."""
    return _first_match(Path("/proc/driver/nvidia/version"), r"Kernel Module.*?\s(\d+\.[\d.]+)")


def _first_match(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return found.group(1).strip() if found else None
