"""Cleans up after a supervisor that died or failed: its attempts are swept and marked as lost."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

from orchestra.supervise import tree
from orchestra.supervise.log import log
from orchestra.supervise.state import JobRecord
from orchestra.wire.heartbeat import pages_folder
from orchestra.wire.job import Attempt
from orchestra.wire.states import AttemptState

_SWEEP_S = 2.0


def clear(tag: str) -> str:
    """Leave no process and no heartbeat page of an attempt; a sentence on what could not be killed.

    The sentence is empty if all is gone.
    """
    result = tree.sweep(tag, _SWEEP_S)
    _remove_pages(pages_folder(tag))
    if result.killed:
        log(f"swept {result.killed} process(es) of {tag}")
    if not result.leftovers:
        return ""
    return f"could not be killed: {', '.join(result.leftovers)}"


def _remove_pages(folder: Path) -> None:
    """Not shutil.rmtree: importing it would be a tenth of the supervisor's start."""
    with contextlib.suppress(OSError):
        for page in folder.iterdir():
            page.unlink()
        folder.rmdir()


def settle(record: JobRecord, why: str = "its supervisor died") -> Attempt | None:
    """Sweep and close the attempts that were left open; the newest one, if any.

    Raises:
        OrchestraError: the folder can't be written or read.
    """
    newest = None
    for folder in record.job.attempts():
        try:
            attempt = Attempt.read(folder)
        except FileNotFoundError:  # it died between making the folder and naming the tag
            continue
        if attempt.state == AttemptState.RUNNING:
            reason = "; ".join(filter(None, (why, clear(attempt.tag))))
            attempt = replace(
                attempt, state=AttemptState.LOST, reason=reason, ended_at=time.time(), agent=None
            )
            record.end_attempt(folder, attempt)
        newest = attempt
    if newest is not None and newest.launcher:
        clear(newest.launcher)
    return newest
