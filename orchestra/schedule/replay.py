"""Which capsule is meant, and the command that replays it. Starts nothing itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from orchestra.supervise.launch import code_environment, code_folder, read_settings
from orchestra.wire.capsules import Capsule, capsules_in
from orchestra.wire.errors import NotFoundError
from orchestra.wire.folders import RunFolder
from orchestra.workspace import Workspace


@dataclass(frozen=True)
class Replay:
    """A program of the training plane about to start."""

    command: list[str]
    environment: dict[str, str]


def prepare_replay(
    workspace: Workspace,
    run_id: str,
    *,
    capsule: str | None,
    gpu: str | None,
    environment: Mapping[str, str],
) -> Replay:
    """The replay of one step, under the run's own code.

    Args:
        capsule: see `choose`.
        gpu: index or UUID; it is not leased. None is the CPU.
        environment: of the program, before the run's code is put into it.

    Raises:
        NotFoundError: the run has no such capsule.
        OrchestraError: the run's folder is damaged.
    """
    run = workspace.runs.run(run_id)
    chosen = choose(run, capsule)
    code = code_folder(workspace.runs, run.job)
    threads = read_settings(run.job.config).threads
    folders = [os.fspath(each.folder) for each in chosen]
    return Replay(
        [
            *(sys.executable, "-m", "orchestra.train.replay"),
            *("--job", os.fspath(run.job.folder)),
            *("--device", "cuda" if gpu else "cpu"),
            *folders,
        ],
        {
            **environment,
            **code_environment(
                code, workspace.root, threads=threads, devices=(gpu,) if gpu else ()
            ),
        },
    )


def choose(run: RunFolder, wanted: str | None) -> list[Capsule]:
    """The capsules of one step in one attempt, by rank: only together do they tell what happened.

    Args:
        wanted: a step's number or folder name, or a capsule's name; None is the newest.

    Raises:
        NotFoundError: there is none, and the message names those that exist.
    """
    there = capsules_in(run.capsules)
    if not there:
        raise NotFoundError(
            f"run {run.id} has no capsule: no step of it had an exception, or a loss or gradient "
            "that was not finite"
        )
    fitting = [each for each in there if wanted is None or wanted in _names(each)]
    if not fitting:
        names = ", ".join(each.name for each in there)
        raise NotFoundError(f"run {run.id} has no capsule {wanted!r}; there are {names}")
    meant = fitting[-1]
    return [each for each in there if (each.step, each.attempt) == (meant.step, meant.attempt)]


def _names(capsule: Capsule) -> tuple[str, ...]:
    return str(capsule.step), capsule.folder.parent.name, capsule.name
