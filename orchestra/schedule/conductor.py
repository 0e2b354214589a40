"""The conductor: dispatches queued jobs and revives those whose supervisor died.

`python -m orchestra.schedule.conductor --workspace W --runs R`. At most one per runs folder, by
flock, and only while a job is queued or at work on this machine. It may be killed at any time:
every supervisor, `wait` and each command that queues a job calls `ensure_conductor`.

Nobody is forgotten between a conductor that ends and a command that queues: the command first
records its job and then tries the lock; the conductor first frees the lock and then looks once
more. Whichever comes first, one of the two sees the other's.
The conductor's lock is taken before the dispatch lock and the job locks; never while one of them
is held.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.wire.errors import OrchestraError

if TYPE_CHECKING:
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.revive import Work
    from orchestra.supervise.lock import FileLock
    from orchestra.wire.folders import RunsFolder
    from orchestra.workspace import Workspace

_TURN_S = 1.0  # a dead supervisor is noticed within this
# The registry is read less often. Queued jobs are tried as often: leases of other workspaces and
# foreign processes free devices without notice.
_LOOK_EVERY_S = 5.0
_LOG_BYTES = 2**18


def conductor_is_alive(runs: RunsFolder) -> bool:
    """Whether one holds its lock. Cheap (OSError)."""
    from orchestra.supervise.lock import is_held

    return is_held(runs.conductor_lock)


def ensure_conductor(workspace: Workspace) -> bool:
    """Start a conductor if there is work and none is there; True if this call started it.

    Raises:
        OrchestraError: the runs folder can't be used, or no process can be started.
    """
    runs = workspace.runs
    try:
        if not runs.path.is_dir() or conductor_is_alive(runs) or not _work(runs):
            return False
        lock = _take(runs)
        if lock is None:
            return False
        with lock:
            _start(workspace, lock)
    except OSError as error:
        raise OrchestraError(f"no conductor can be started for {runs.path}: {error}") from error
    return True


def _take(runs: RunsFolder) -> FileLock | None:
    from orchestra.supervise.lock import FileLock

    return FileLock.acquire_if_free(runs.conductor_lock)


def _start(workspace: Workspace, lock: FileLock) -> None:
    """The lock is handed down, so that it is never free in between."""
    from orchestra.schedule.spawn import own_environment, spawn

    runs = workspace.runs
    spawn(
        "orchestra.schedule.conductor",
        ["--workspace", os.fspath(workspace.root), "--runs", os.fspath(runs.path)],
        log=runs.conductor_log,
        folder=workspace.root,
        environment=own_environment(),
        lock_fd=lock.fd,
    )


def _work(runs: RunsFolder) -> Work:
    from orchestra.registry.store import open_registry
    from orchestra.schedule.revive import find_work

    with open_registry(runs) as registry:
        return find_work(runs, registry)


class Conductor:
    """`conduct` is all it does. One process, one thread; it keeps nothing that must survive it."""

    def __init__(self, workspace: Workspace, lock: FileLock) -> None:
        from orchestra.gpu.probe import Prober
        from orchestra.schedule.revive import Revivals, Work

        self._prober = Prober()  # its child lives while jobs wait for GPUs
        self._workspace = workspace
        self._runs = workspace.runs
        self._lock = lock
        self._revivals = Revivals()
        self._work = Work((), ())
        self._next_look_s = 0.0
        self._complaint = ""

    def conduct(self) -> None:
        """Until nobody needs a conductor here."""
        while True:
            self._announce()
            self._work_off()
            self._lock.close()
            lock = _take(self._runs) if self._runs.path.is_dir() and _work(self._runs) else None
            if lock is None:
                return
            self._lock = lock

    def _announce(self) -> None:
        """Who it is, for people."""
        from orchestra.supervise.log import log
        from orchestra.wire.files import json_bytes
        from orchestra.wire.identity import self_identity

        os.ftruncate(self._lock.fd, 0)
        os.pwrite(self._lock.fd, json_bytes(self_identity().to_json()), 0)
        log(f"conductor {os.getpid()} of {self._runs.path}")

    def _work_off(self) -> None:
        import sqlite3

        while self._lock_is_in_place():
            _reap()
            try:
                _bound(self._runs.conductor_log)
                if not self._turn():
                    return
            except (OrchestraError, OSError, sqlite3.Error) as error:
                self._complain(str(error))
            time.sleep(_TURN_S)

    def _turn(self) -> bool:
        """Look, and do what is due; False if there is nothing left."""
        from orchestra.wire.files import is_disk_full

        looked = self._look()
        orphans = self._orphans()
        if is_disk_full(self._runs.path):
            self._complain(f"the disk of {self._runs.path} is full: what is started would fail")
            return True
        self._complain("")
        orphans = self._give_up(orphans)
        queued = self._give_up(self._queued()) if looked else {}
        if orphans or (looked and self._work.waiting):
            self._dispatch(orphans, queued)
        if not self._work.waiting:
            self._prober.close()
        return bool(self._work)

    def _look(self) -> bool:
        """Read the registry, if it is time."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return False
        self._work = _work(self._runs)
        self._next_look_s = now_s + _LOOK_EVERY_S
        return True

    def _orphans(self) -> dict[JobKey, float]:
        """Jobs whose supervisor died, with their newest attempt. Where one ended: look again."""
        from orchestra.schedule.revive import read_state

        orphans: dict[JobKey, float] = {}
        for key in self._work.owned:
            state = read_state(self._runs, key)
            if state is None or state.supervisor is None:
                self._next_look_s = 0.0
            elif state.is_orphaned():
                orphans[key] = state.attempt
        return orphans

    def _queued(self) -> dict[JobKey, float]:
        """Queued jobs, with the time of their last change: a supervisor that comes up makes one."""
        from orchestra.schedule.revive import read_state
        from orchestra.wire.states import RunState

        states = {key: read_state(self._runs, key) for key in self._work.waiting}
        return {
            key: state.updated_at
            for key, state in states.items()
            if state is not None and state.state == RunState.QUEUED
        }

    def _give_up(self, jobs: dict[JobKey, float]) -> dict[JobKey, float]:
        """End those that a new supervisor would not help; the others."""
        from orchestra.registry.store import open_registry
        from orchestra.schedule.revive import end_hopeless

        hopeless = {key for key in jobs if self._revivals.exhausted(key, jobs[key])}
        if hopeless:
            with open_registry(self._runs) as registry:
                for key in hopeless:
                    end_hopeless(self._runs, key, registry)
        return {key: jobs[key] for key in jobs if key not in hopeless}

    def _dispatch(self, orphans: dict[JobKey, float], queued: dict[JobKey, float]) -> None:
        from orchestra.schedule.dispatch import dispatch
        from orchestra.supervise.log import log

        for key in dispatch(self._workspace, self._prober):
            found = orphans.get(key, queued.get(key))
            if found is not None:
                self._revivals.note(key, found)
            died = "its supervisor had died; " if key in orphans else ""
            log(f"{key}: {died}a supervisor starts")
            self._next_look_s = 0.0

    def _lock_is_in_place(self) -> bool:
        """Not if somebody removed the runs folder or the lock file: it locks nothing then."""
        try:
            there = self._runs.conductor_lock.stat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._lock.fd))

    def _complain(self, complaint: str) -> None:
        """Say it once, not every second."""
        from orchestra.supervise.log import log

        if complaint and complaint != self._complaint:
            log(complaint)
        self._complaint = complaint


def _bound(path: Path) -> None:
    """A long log becomes the old one, of which there is one; stdio goes on in a new file."""
    if os.fstat(sys.stderr.fileno()).st_size > _LOG_BYTES:
        with contextlib.suppress(FileNotFoundError):  # somebody removed it
            path.replace(path.with_name(f"{path.name}.1"))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(fd, stream.fileno())
        os.close(fd)


def _reap() -> None:
    """Leave no supervisor that ended as a zombie. How it ended, it has written down itself."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def main(argv: list[str]) -> int:
    """Conduct, unless somebody else does."""
    import argparse

    from orchestra.supervise.lock import FileLock
    from orchestra.supervise.log import log
    from orchestra.wire.exit_codes import ExitCode
    from orchestra.wire.folders import RunsFolder
    from orchestra.workspace import Workspace

    parser = argparse.ArgumentParser(prog="python -m orchestra.schedule.conductor")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int, help="a descriptor that holds the conductor's lock")
    arguments = parser.parse_args(argv)
    workspace = Workspace(arguments.workspace, RunsFolder(arguments.runs))
    fd = arguments.lock_fd
    lock = _take(workspace.runs) if fd is None else FileLock(fd)
    if lock is None:
        return ExitCode.CONFLICT
    try:
        Conductor(workspace, lock).conduct()
    except OrchestraError as error:
        log(str(error))
        return error.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
