from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch.distributed.run as torchrun

from orchestra.train.agent import _torchrun_arguments

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
