"""The agent: torchrun (torch.distributed.run) in this process, with each rank's failure kept.

torchrun exits with 1 whatever happened; here its ChildFailedError becomes failures.json.
Forked by train/launcher.py; as a program of its own only where forking is not safe.
It never restarts ranks by itself and leaves none alive on any path: ranks arm the death chain.
"""

from __future__ import annotations

import os

from orchestra.wire import lifeline

if __name__ == "__main__":
    # Before torch is imported: that takes seconds in which the supervisor may die.
    lifeline.die_with_parent()
    lifeline.announce(os.environ)

import argparse
import shutil
import signal
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure, write_failures
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import pages_folder, read_beats
from orchestra.wire.job import TAG

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

_RANKS = (
    "orchestra.train.session",
    "orchestra.train.trainer",
    "orchestra.train.final",
    "torch.utils.tensorboard.writer",
    "torch._dynamo",  # which torch imports when the first optimizer is made
)
_SHUTDOWN_S = 1  # from SIGTERM to the ranks until SIGKILL
_POLL_S = 0.1


def preload(job: Path) -> None:
    """Import what agents and ranks of a job folder need, for a process that forks them."""
    import torch.distributed.run as torchrun

    torchrun.get_args_parser().format_help()
    for name in _RANKS:
        import_module(name)
    config = tomllib.loads(Job("train", job).config.read_text(encoding="utf-8"))
    if config["upstream"]["kind"] == "huggingface":
        import_module("orchestra.upstreams.huggingface")
        # Not what it imports to load a model: that asks torch for an accelerator, and no child can
        # use a GPU once its parent has.


def main(argv: list[str]) -> int:
    """Run the ranks to their end; 0 if all of them ended well."""
    arguments = _parser().parse_args(argv)
    attempt = Job(arguments.kind, arguments.job).attempt(arguments.attempt)

    import torch.distributed.run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    run: Callable[[argparse.Namespace], None] = torchrun.run
    parse: Callable[[list[str]], argparse.Namespace] = torchrun.parse_args
    error_files = attempt.logs / "torchelastic"
    try:
        options = torchrun.get_args_parser().format_help()
        run(parse(_torchrun_arguments(arguments, error_files, options)))
    except ChildFailedError as error:
        write_failures(attempt.failures, first_failure_first(error.failures))
        return ExitCode.FAILED
    except SignalException as error:
        return 128 + error.sigval
    finally:
        shutil.rmtree(error_files, ignore_errors=True)
    return ExitCode.OK


def first_failure_first(failures: dict[int, ProcessFailure]) -> list[RankFailure]:
    """The failures of all ranks, the likely cause first.

    torchrun stamps them in whole seconds, too coarse to tell cause from effect: a rank that was
    killed comes before ranks that raised because their peer was gone, those come in the order
    in which they raised, and ranks that torchrun itself terminated come last.
    """
    # A forked rank's pid is not the one that torchrun knows (train/forked.py).
    pids = {beat.rank: beat.pid for beat in read_beats(pages_folder(os.environ.get(TAG, "")))}
    return [
        _rank_failure(rank, failure, pids.get(rank, failure.pid))
        for rank, failure in sorted(failures.items(), key=lambda item: _order(item[1]))
    ]


def _order(failure: ProcessFailure) -> tuple[int, float]:
    if failure.exitcode == -signal.SIGTERM:
        return 2, failure.timestamp
    if failure.exitcode < 0:
        return 0, failure.timestamp
    return 1, _raised_at(failure)


def _raised_at(failure: ProcessFailure) -> float:
    """Unix time; the error file is written as the exception is raised."""
    try:
        return Path(failure.error_file).stat().st_mtime
    except OSError:
        return failure.timestamp


def _rank_failure(rank: int, failure: ProcessFailure, pid: int) -> RankFailure:
    return RankFailure(
        rank=rank,
        pid=pid,
        exit_code=max(0, failure.exitcode),
        signal=max(0, -failure.exitcode),
        time_s=_raised_at(failure),
        message=_message(failure),
    )


def _message(failure: ProcessFailure) -> str:
    """What the rank raised; empty where it left no error file."""
    said = failure.error_file_data.get("message")
    return str(said["message"]) if isinstance(said, dict) else ""


def _torchrun_arguments(
    arguments: argparse.Namespace, error_files: Path, options: str
) -> list[str]:
    """`options` is the help text of this torchrun, which tells what it knows."""
    # Before torch 2.12 its patience can't be set; there the supervisor's sweep cuts it short.
    shutdown = "--shutdown-timeout"
    return [
        "--standalone",
        "--max-restarts=0",
        f"--monitor-interval={_POLL_S}",
        *([f"{shutdown}={_SHUTDOWN_S}"] if shutdown in options else []),
        f"--nproc-per-node={arguments.nproc}",
        f"--log-dir={error_files}",
        "-m",
        "orchestra.train.forked",
        *("--job", os.fspath(arguments.job)),
        *("--kind", arguments.kind),
        *("--attempt", str(arguments.attempt)),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestra.train.agent")
    parser.add_argument("--nproc", type=int, required=True)
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--kind", choices=("train", "evaluate"), required=True)
    parser.add_argument("--attempt", type=int, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
