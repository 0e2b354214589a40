"""Processes that dead runs of this user left behind: found by their tag, and killed.

Only what carries a tag is ever killed, and only if its job folder proves that nobody owns it. What
can't be decided, and what others have on the GPUs, is listed. Standard library only: every
supervisor calls `reap_dead` before a launch.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestra.supervise import tree
from orchestra.supervise.lock import is_held
from orchestra.supervise.tree import Tagged
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import Job, RunFolder, RunsFolder
from orchestra.wire.identity import start_ticks
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import AttemptState

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Fate(StrEnum):
    """What a tagged process is, according to its job folder."""

    LIVE = "live"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """`why` is a few words for people."""

    fate: Fate
    why: str


@dataclass(frozen=True)
class Leftover:
    """A process that belongs to no live run."""

    tag: str
    run_id: str
    runs: str
    """The folder its run lies in, or lay; empty if unknown."""
    pid: int
    command: str
    age_s: float
    gpu_bytes: int | None
    """Memory it holds on GPUs; None where NVML does not tell."""
    verdict: Verdict


@dataclass(frozen=True)
class Stranger:
    """A GPU process that looks orphaned and carries no tag of this user. Never killed."""

    pid: int
    user: str
    command: str
    age_s: float
    gpu_bytes: int | None
    why: str


@dataclass(frozen=True)
class Findings:
    """All there is to tell; `dead` is what `reap` kills."""

    dead: tuple[Leftover, ...]
    unknown: tuple[Leftover, ...]
    strangers: tuple[Stranger, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def find() -> Findings:
    """Look at all processes, and ask NVML what they hold (bounded)."""
    found = tree.scan()
    verdicts = judge_all(found)
    memory = _gpu_memory()
    leftovers = [
        _leftover(item, verdicts[item], memory)
        for item in sorted(found, key=lambda item: (item.tag, item.process.pid))
        if verdicts[item].fate != Fate.LIVE
    ]
    tagged = {item.process.pid for item in found}
    return Findings(
        tuple(item for item in leftovers if item.verdict.fate == Fate.DEAD),
        tuple(item for item in leftovers if item.verdict.fate == Fate.UNKNOWN),
        tuple(_strangers(memory or {}, tagged)),
    )


def reap_dead(
    runs: RunsFolder | None = None,
    *,
    tags: Collection[str] | None = None,
    deadline_s: float = 2.0,
) -> tree.Sweep:
    """Kill what dead runs left: of the runs in `runs` only, or with these tags only, if given.

    One look at procfs where there is nothing to kill. Each process is judged now, however long
    ago it was found.
    """
    found = [
        item
        for item in tree.scan()
        if (runs is None or _is_in(item, runs)) and (tags is None or item.tag in tags)
    ]
    verdicts = judge_all(found)
    dead = {item.tag for item in found if verdicts[item].fate == Fate.DEAD}
    if not dead:
        return tree.Sweep(0, ())
    return tree.sweep(dead, deadline_s, spare=_lineage())


def judge_all(found: Collection[Tagged]) -> dict[Tagged, Verdict]:
    """Each process's fate; a job folder is read once for each of its tags."""
    spared = _lineage()
    seen: dict[tuple[str, str, str, str], Verdict] = {}
    verdicts = {}
    for item in found:
        pid, key = item.process.pid, (item.tag, item.run_id, item.job, item.workspace)
        if key not in seen:
            seen[key] = judge(item)
        verdict = seen[key]
        if verdict.fate == Fate.DEAD and pid in spared:
            verdict = Verdict(Fate.UNKNOWN, "this very command runs in it")
        elif verdict.fate == Fate.DEAD and not _sees_our_files(pid):
            verdict = Verdict(Fate.UNKNOWN, "it runs in a container: look from in there")
        verdicts[item] = verdict
    return verdicts


def judge(item: Tagged) -> Verdict:
    """Whether the attempt that the process belongs to has an owner."""
    job = _job(item)
    if job is None:
        return Verdict(Fate.UNKNOWN, "nothing tells where its run lies")
    try:
        return _judge(item.tag, job)
    except (OrchestraError, OSError) as error:
        return Verdict(Fate.UNKNOWN, f"its run can't be looked at: {error}")


def _judge(tag: str, job: Job) -> Verdict:
    if not job.folder.is_dir():
        runs = job.run.path.parent
        if runs.is_dir():
            return Verdict(Fate.DEAD, "its run was removed")
        return Verdict(Fate.UNKNOWN, f"{runs} is not there: not mounted, or removed?")
    try:
        supervisor = JobState.read(job).supervisor
    except FileNotFoundError:
        supervisor = None
    if supervisor is not None and not supervisor.is_here():
        return Verdict(Fate.UNKNOWN, f"its run lives on host {supervisor.host}")
    if is_held(job.lock) or (supervisor is not None and supervisor.is_alive()):
        return _judge_owned(tag, job)
    return Verdict(Fate.DEAD, "its supervisor is dead")


def _judge_owned(tag: str, job: Job) -> Verdict:
    """The run is alive; is this tag of an attempt that is over?"""
    known = [Attempt.read(folder) for folder in job.attempts() if folder.attempt.is_file()]
    if known and (tag == known[-1].launcher or _is_running(known[-1], tag)):
        return Verdict(Fate.LIVE, "its run is at work")
    if any(attempt.tag == tag for attempt in known):
        return Verdict(Fate.DEAD, "its attempt is over")
    # A launcher starts before the attempt that names it.
    return Verdict(Fate.UNKNOWN, "its run is at work, and does not name this tag")


def _is_running(attempt: Attempt, tag: str) -> bool:
    return attempt.tag == tag and attempt.state == AttemptState.RUNNING


def _job(item: Tagged) -> Job | None:
    """The job folder; for processes of an older orchestra a guess that has to be there."""
    if item.job:
        folder = Path(item.job)
        return Job("evaluate" if folder.parent.name == "evaluations" else "train", folder)
    if not item.workspace or not item.run_id:
        return None
    run = RunFolder(Path(item.workspace) / "runs" / item.run_id)
    part = item.tag.removeprefix(f"{item.run_id}.").split(".")[0]
    job = run.evaluation(int(part[1:])).job if part[:1] == "e" and part[1:].isdigit() else run.job
    return job if job.folder.is_dir() else None


def _sees_our_files(pid: int) -> bool:
    """Whether paths mean the same to it: in another mount namespace its run may well be alive."""
    try:
        return Path(f"/proc/{pid}/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return False


def _is_in(item: Tagged, runs: RunsFolder) -> bool:
    job = _job(item)
    return job is not None and job.run.path.parent == runs.path


def _leftover(item: Tagged, verdict: Verdict, memory: dict[int, int | None] | None) -> Leftover:
    pid, job = item.process.pid, _job(item)
    return Leftover(
        item.tag,
        item.run_id,
        str(job.run.path.parent) if job else "",
        pid,
        _command(pid),
        _age_s(pid),
        None if memory is None else memory.get(pid, 0),
        verdict,
    )


def _strangers(memory: dict[int, int | None], tagged: Collection[int]) -> Iterable[Stranger]:
    """GPU processes without a tag of ours that nobody seems to wait for."""
    for pid, held in sorted(memory.items()):
        why = _looks_orphaned(pid)
        if pid not in tagged and why:
            yield Stranger(pid, _user(pid), _command(pid), _age_s(pid), held, why)


def _looks_orphaned(pid: int) -> str:
    """Why; empty if it does not, or does not run here (in a container NVML names host pids)."""
    stat = _stat(pid)
    if stat is None:
        return ""
    parent, session = int(stat[1]), int(stat[3])
    if parent == 1:
        return "its parent is pid 1"
    if _read(parent, "comm").strip() == "systemd":
        return "its parent is the user's systemd"
    if session != 0 and start_ticks(session) is None:  # 0: the leader is outside this pid namespace
        return "the leader of its session is dead"
    return ""


def _gpu_memory() -> dict[int, int | None] | None:
    """Bytes on all GPUs by pid; None where NVML tells nothing within its deadline."""
    from orchestra.gpu.probe import probe

    reading = probe()
    if reading.error is not None:
        return None
    held: dict[int, int | None] = {}
    for device in reading.devices:
        for process in device.processes or ():
            before = held.get(process.pid, 0)
            known = before is not None and process.memory is not None
            held[process.pid] = (before or 0) + (process.memory or 0) if known else None
    return held


def _lineage() -> frozenset[int]:
    """This process and those above it: never killed, even if started from a dead run's shell."""
    pids, pid = set(), os.getpid()
    while pid > 0 and (stat := _stat(pid)) is not None:
        pids.add(pid)
        pid = int(stat[1])
    return frozenset(pids)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on."""
    text = _read(pid, "stat")
    return text.rpartition(")")[2].split() if text else None


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ").strip() or _read(pid, "comm").strip()


def _age_s(pid: int) -> float:
    ticks = start_ticks(pid)
    return 0.0 if ticks is None else time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS_PER_S


def _user(pid: int) -> str:
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
        return pwd.getpwuid(uid).pw_name
    except OSError:
        return "?"
    except KeyError:
        return str(uid)


def _read(pid: int, entry: str) -> str:
    try:
        return Path(f"/proc/{pid}/{entry}").read_text(errors="replace")
    except OSError:
        return ""
