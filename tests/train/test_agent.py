from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.run as torchrun

from orchestra.train.agent import _torchrun_arguments
from tests.exactness.launching import REPOSITORY, write_job

ARGUMENTS = argparse.Namespace(nproc=2, job=Path("/run"), kind="train", attempt=1)


def test_torchrun_understands_its_arguments(tmp_path: Path) -> None:
    options = torchrun.get_args_parser().format_help()
    parse: Any = torchrun.parse_args
    parsed = parse(_torchrun_arguments(ARGUMENTS, tmp_path, options))
    assert (parsed.nproc_per_node, parsed.max_restarts) == ("2", 0)
    assert getattr(parsed, "shutdown_timeout", 1) == 1
    assert parsed.training_script_args[:2] == ["--job", "/run"]


def test_older_torchrun_is_not_asked_what_it_does_not_know(tmp_path: Path) -> None:
    def asked(options: str) -> bool:
        arguments = _torchrun_arguments(ARGUMENTS, tmp_path, options)
        return any(item.startswith("--shutdown-timeout=") for item in arguments)

    assert asked("[--shutdown-timeout SECONDS]")
    assert not asked("[--monitor-interval SECONDS]")


UNTOUCHED = """
import sys, threading
from pathlib import Path
import torch
from orchestra.train.agent import preload

def refuse(*_):
    asked.append(1)
    raise AssertionError("asked for a GPU")

asked = []
for module, names in (
    (torch.cuda, ("is_available", "device_count", "current_device", "_lazy_init")),
    (torch.accelerator, ("is_available", "device_count", "current_accelerator")),
):
    for name in names:
        setattr(module, name, refuse)

def tell(*more):
    tasks = len(list(Path("/proc/self/task").iterdir()))
    print(len(asked), tasks, threading.active_count(), *more)

for job in sys.argv[1:]:
    preload(Path(job))
    tell("orchestra.train.trainer" in sys.modules, "orchestra.upstreams.huggingface" in sys.modules)
torch.cuda.is_available()  # control
"""


@pytest.mark.slow
def test_what_is_forked_from_has_no_gpu_and_no_threads(tmp_path: Path) -> None:
    """A CUDA context does not survive a fork, and of threads only the forking one does. What takes
    seconds to import is loaded by those runs alone that use it."""
    folders = []
    for kind in ("fbank", "huggingface"):
        job = write_job(tmp_path / kind)
        text = job.config.read_text()
        assert 'kind = "fbank"' in text
        job.config.write_text(text.replace('kind = "fbank"', f'kind = "{kind}"'))
        folders.append(str(job.folder))
    done = subprocess.run(
        [sys.executable, "-c", UNTOUCHED, *folders],
        # OpenBLAS would start threads as NumPy is imported; train/warm.py sees to that.
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "0 1 1 True False\n0 1 1 True True\n", done.stderr
    assert done.stderr.endswith("AssertionError: asked for a GPU\n")
