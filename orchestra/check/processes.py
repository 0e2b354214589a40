"""The rule that real processes keep, as torchrun starts them; the others look at one process.

`python -m orchestra.check.processes` is one of its ranks, and prints what it has found.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed

from orchestra.check.compare import difference
from orchestra.check.mistakes import Violation, of_task
from orchestra.check.predict_rules import of_split, require_same
from orchestra.check.subject import Subject, numbers
from orchestra.check.training_rules import Training
from orchestra.config.frozen import read_frozen
from orchestra.data.program import Outcome, run
from orchestra.wire import lifeline

RANKS = 2
_PATIENCE = timedelta(minutes=5)
"""How long a rank waits for the others."""


@dataclass(frozen=True)
class Processes:
    """Two processes, each with a rank and a hash seed of its own, find what one finds."""

    config: Path
    """Frozen."""
    code: Path

    def __call__(self, subject: Subject) -> str:
        alone = _found(subject, 0, 1)
        ranks = self._ranks()
        for rank, found in enumerate(ranks):
            for key, what in (("learnt", "learn()"), ("loss", "loss"), ("weights", "a step")):
                differs = difference(alone[key], found[key])
                if differs:
                    raise Violation(
                        f"{what}: {differs} in the process of rank {rank}: depend on neither ranks "
                        "nor the order of a set"
                    )
        records = [record for found in ranks for record in found["records"]]
        require_same(alone["records"], records, "in another process, as one of two ranks")
        return f"{len(records)} records, a loss and {len(alone['weights'])} tensors"

    def _ranks(self) -> list[dict[str, Any]]:
        """What each rank has found (Violation: one of them failed)."""
        with TemporaryDirectory(prefix="orchestra-") as folder:
            ranks = [self._start(rank, Path(folder)) for rank in range(RANKS)]

            def outcome(rank: subprocess.Popen[str]) -> tuple[str, str]:
                out, err = rank.communicate()
                if rank.returncode != 0:
                    for other in ranks:  # which would wait for it
                        other.kill()
                return out, err

            with ThreadPoolExecutor(RANKS) as pool:
                outcomes = list(pool.map(outcome, ranks))
        for number, (rank, (_, err)) in enumerate(zip(ranks, outcomes, strict=True)):
            if rank.returncode > 0:
                last = (err.strip() or f"exit code {rank.returncode}").splitlines()[-1]
                raise Violation(f"rank {number} of {RANKS}: {last}")
        return [json.loads(out) for out, _ in outcomes]

    def _start(self, rank: int, folder: Path) -> subprocess.Popen[str]:
        child = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONHASHSEED": str(rank + 1),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(RANKS),
        }
        lifeline.announce(child)
        command = [sys.executable, "-P", "-m", "orchestra.check.processes"]
        files = {"--config": self.config, "--code": self.code, "--meeting": folder / "ranks"}
        for name, path in files.items():
            command += [name, os.fspath(path)]
        return subprocess.Popen(
            command,
            env=child,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """A rank; returns its exit code."""
    lifeline.die_with_parent()
    parser = argparse.ArgumentParser(prog="rank", allow_abbrev=False)
    for name in ("--config", "--code", "--meeting"):
        parser.add_argument(name, type=Path, required=True)
    return run(parser, _work, argv)


def _work(arguments: argparse.Namespace) -> Outcome:
    config, info = read_frozen(arguments.config, arguments.code)
    torch.set_num_threads(config.launch.threads)
    rank, ranks = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{arguments.meeting}",
        timeout=_PATIENCE,
        rank=rank,
        world_size=ranks,
    )
    with contextlib.redirect_stdout(sys.stderr), of_task(info.folder):  # a task may print
        found = _found(Subject.of(config, info), rank, ranks)
    distributed.destroy_process_group()
    return Outcome(found)


def _found(subject: Subject, rank: int, ranks: int) -> dict[str, Any]:
    """What all ranks must find alike, and the records of this one's share."""
    training = Training(subject)
    training.take(range(2))
    weights, _ = training.saved()
    return {
        "learnt": subject.learnt,
        "loss": numbers(subject.build().loss(subject.batch(subject.few))),
        "weights": {
            name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:12]
            for name, tensor in weights.items()
        },
        "records": of_split(subject, [subject.valid[rank::ranks]]),
    }


if __name__ == "__main__":
    sys.exit(main())
