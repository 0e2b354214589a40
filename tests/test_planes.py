"""The two planes stay apart at run time too: a lazy import can pass a static contract."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import orchestra

CONTROL = ("cli", "registry", "config", "provenance", "gpu", "supervise", "schedule", "wire")
TRAINING = ("train", "data", "upstreams", "check", "tasklib")


def modules_of(packages: tuple[str, ...]) -> list[str]:
    found = pkgutil.walk_packages(orchestra.__path__, "orchestra.")
    return [
        module.name
        for module in found
        if module.name.split(".")[1] in packages and not module.name.endswith("__main__")
    ]


def loaded_after(imports: list[str]) -> set[str]:
    program = (
        "import importlib, json, sys\n"
        f"for name in {imports!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(answer.stdout))


@pytest.mark.parametrize("package", CONTROL)
def test_control_plane_never_loads_torch_or_numpy(package: str) -> None:
    # sqlite-utils loads NumPy where it is installed; only the migrations use it, by design.
    modules = [name for name in modules_of((package,)) if name != "orchestra.registry.migrations"]
    assert modules
    assert not loaded_after(modules) & {"torch", "numpy", "transformers", "soundfile"}


def test_training_plane_never_loads_terminal_database_or_git() -> None:
    modules = modules_of(TRAINING)
    assert modules
    assert not loaded_after(modules) & {"typer", "textual", "sqlite_utils", "git"}


def test_the_check_sees_a_violation() -> None:
    assert "torch" in loaded_after(["orchestra.wire", "torch"])
