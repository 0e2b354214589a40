"""Which queued jobs start now and on which GPUs, and why each of the others waits.

One pure function: no clock, no file, no process. The order is priority, then first come, first
served; a small job may go ahead of a large one for a while, but never starves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from orchestra.registry.rows import JobKey
from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from orchestra.gpu.probe import Link

#: A job that has waited so long has the free GPUs it could use kept for it; until then those behind
#: it may have them. Long enough that short jobs fill the gaps while a running one ends, short
#: beside the hours of a training, so that a large job starts this much and one job's end later at
#: the latest.
BACKFILL_S = 600.0

_MOST_NAMED = 4


@dataclass(frozen=True)
class Gpu:
    """One GPU of the machine."""

    uuid: str
    index: int
    taken: str = ""
    """Why nobody may have it; empty if it is free."""
    doubt: str = ""
    """Why only a job that names it may have it; empty if there is none."""
    leased: bool = False
    """Whether it is a run, of whomever, that has it: the GPU is free when that run ends."""


@dataclass(frozen=True)
class Waiting:
    """A queued job."""

    key: JobKey
    queued_at: float
    """Unix time."""
    gpus: int
    """How many; 0: none."""
    priority: int = 0
    pool: tuple[str, ...] | None = None
    """UUIDs of those it may have, best first; None: any."""
    named: bool = False
    """Whether the user named them."""
    problem: str = ""
    """Why its pool can't be told: it waits."""
    after: str = ""
    """Id of the run that must be completed first."""
    after_state: RunState | None = None
    """Of that run; None: it was removed."""
    after_ended_at: float | None = None
    """When that run ended (Unix time)."""
    parent: str = ""
    """Id of its parent run; empty: none. Its members take turns on the CPU."""
    sibling: str = ""
    """Id of a member of the same that is at work; empty: none."""

    @property
    def in_line_since(self) -> float:
        """Since when only GPUs are missing (Unix time)."""
        return max(self.queued_at, self.after_ended_at or 0.0)


@dataclass(frozen=True)
class Snapshot:
    """All that a plan depends on."""

    now: float
    """Unix time."""
    waiting: Sequence[Waiting]
    """Of one time, those that come first go first."""
    gpus: Sequence[Gpu] = ()
    links: Sequence[Link] = ()
    problem: str = ""
    """Why no GPU can be seen."""
    limit: int | None = None
    """Most GPUs that this workspace may hold."""
    held: int = 0
    """How many it holds."""


class Start(NamedTuple):
    """A job that starts now."""

    key: JobKey
    devices: tuple[str, ...] = ()
    """UUIDs; empty on the CPU."""
    named: bool = False
    """Whether the user named them."""


class Wait(NamedTuple):
    """A job that waits."""

    key: JobKey
    position: int | None
    """In the line for GPUs, from 1; None: it waits for another run."""
    reason: str


@dataclass(frozen=True)
class Plan:
    """Every waiting job is in one of the two, in the order in which they were considered."""

    starts: tuple[Start, ...]
    waits: tuple[Wait, ...]


_TURNS = "members of a parent run take turns on the CPU"


def plan(snapshot: Snapshot) -> Plan:
    """The verdict on every waiting job."""
    line = _Line(snapshot)
    turns: dict[str, str] = {}
    """By the id of a parent run, that of the member whose turn it is."""
    for job in sorted(snapshot.waiting, key=lambda job: (-job.priority, job.queued_at)):
        if job.after and job.after_state is not RunState.COMPLETED:
            line.waits.append(Wait(job.key, None, _waits_for(job)))
        elif job.gpus:
            line.consider(job)
        elif first := job.sibling or turns.get(job.parent):
            line.waits.append(Wait(job.key, None, f"waits for run {first}: {_TURNS}"))
        else:
            line.starts.append(Start(job.key))
            turns |= {job.parent: job.key.run_id} if job.parent else {}
    return Plan(tuple(line.starts), tuple(line.waits))


def _waits_for(job: Waiting) -> str:
    state = job.after_state
    if state is None:
        return f"waits for run {job.after}, which was removed: stop this one"
    if state in (RunState.FAILED, RunState.STOPPED, RunState.PREEMPTED):
        was = "" if state is RunState.FAILED else "was "
        return f"waits for run {job.after}, which {was}{state}: resume it or stop this one"
    return f"waits for run {job.after}, which is {state}"


class _Line:
    """The line for GPUs as it is worked off. Sets of GPUs are bits of a number, and reasons are
    made once: 10,000 jobs and 64 GPUs have to be planned within 50 ms."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._limit = float("inf") if snapshot.limit is None else snapshot.limit
        self._gpus = snapshot.gpus
        self._links = snapshot.links
        self._bit = {gpu.uuid: 1 << number for number, gpu in enumerate(snapshot.gpus)}
        self._free = self._bits_of(gpu.uuid for gpu in snapshot.gpus if not gpu.taken)
        self._stuck = self._bits_of(
            gpu.uuid for gpu in snapshot.gpus if gpu.taken and not gpu.leased
        )
        self._doubtful = self._bits_of(gpu.uuid for gpu in snapshot.gpus if gpu.doubt)
        self._pools: dict[tuple[str, ...] | None, int] = {None: (1 << len(self._gpus)) - 1}
        self._in_use = snapshot.held
        self._given: dict[str, JobKey] = {}
        # Kept for jobs that have waited long: which GPUs, and how many count against the limit.
        self._kept = 0
        self._promised = 0
        self._keeper = ""
        self._ahead = ""
        self._lacks: dict[tuple[int, bool, int, int], str] = {}
        self.starts: list[Start] = []
        self.waits: list[Wait] = []
        self._position = 0

    def consider(self, job: Waiting) -> None:
        """The next in the line: it starts, or waits and perhaps has GPUs kept for it."""
        pool = self._pool(job)
        free = pool & self._free
        usable = free & ~self._kept
        if usable.bit_count() >= job.gpus <= self._limit - self._in_use - self._promised:
            self._start(job, usable)
            return
        self._position += 1
        self.waits.append(Wait(job.key, self._position, self._reason(job, pool, free, usable)))
        self._ahead = str(job.key)
        overdue = self._snapshot.now - job.in_line_since >= BACKFILL_S
        # What no run has may never come free: nothing is kept for who waits for that.
        if overdue and (pool & ~self._stuck).bit_count() >= job.gpus <= self._limit:
            self._kept |= usable
            self._promised += job.gpus
            self._keeper = self._keeper or self._ahead

    def _start(self, job: Waiting, usable: int) -> None:
        from orchestra.gpu.topology import choose  # what runs on the CPU does without

        free = [gpu for gpu in self._in_order(job) if usable & self._bit[gpu.uuid]]
        chosen = {gpu.uuid: job.key for gpu in choose(job.gpus, free, self._links)}
        self._links = [
            link for link in self._links if link.first not in chosen and link.second not in chosen
        ]
        self._free &= ~self._bits_of(chosen)
        self._given |= chosen
        self._in_use += job.gpus
        self.starts.append(Start(job.key, tuple(chosen), job.named))

    def _in_order(self, job: Waiting) -> Sequence[Gpu]:
        if job.pool is None:
            return self._gpus
        by_uuid = {gpu.uuid: gpu for gpu in self._gpus}
        return [by_uuid[uuid] for uuid in job.pool]

    def _pool(self, job: Waiting) -> int:
        """The GPUs it may have. Doubtful ones stay so: only a job that names them may."""
        if job.problem:
            return 0
        bits = self._pools.get(job.pool)
        if bits is None:
            bits = self._pools[job.pool] = self._bits_of(job.pool or ())
        return bits if job.named else bits & ~self._doubtful

    def _bits_of(self, uuids: Iterable[str]) -> int:
        return sum(self._bit[uuid] for uuid in uuids)

    def _reason(self, job: Waiting, pool: int, free: int, usable: int) -> str:
        if problem := self._snapshot.problem or job.problem:
            return problem
        if pool.bit_count() < job.gpus:
            return f"{_needs(job)}, but {self._what_there_is(job, pool)}"
        if job.gpus > self._limit:
            return f"{_needs(job)}, but gpus.limit = {self._limit} of this workspace"
        if free.bit_count() < job.gpus:
            why = self._lack(job, pool, free)
        elif job.gpus > (room := self._limit - self._in_use):
            rest = f"leaves {room}" if room > 0 else "reached"
            why = f"gpus.limit = {self._limit} of this workspace {rest} ({self._in_use} in use)"
        else:
            roomless = usable.bit_count() >= job.gpus
            what = "room under gpus.limit is" if roomless else "the free ones are"
            return f"{_needs(job)}; {what} kept for {self._keeper}"
        return f"{why}; behind {self._ahead}" if self._ahead else f"{why}; next when they are free"

    def _what_there_is(self, job: Waiting, pool: int) -> str:
        """Where it may never start, for all that can be seen."""
        if not self._gpus:
            return "no GPU can be seen"
        text = f"there are only {pool.bit_count()} that it may use" if pool else "it may use none"
        doubt = 0 if job.named else self._pools[job.pool] & self._doubtful
        doubtful = [gpu for gpu in self._gpus if self._bit[gpu.uuid] & doubt]
        told = [f"GPU {gpu.index}: {gpu.doubt}" for gpu in doubtful[:_MOST_NAMED]]
        return f"{text} ({', '.join(told)})" if told else text

    def _lack(self, job: Waiting, pool: int, free: int) -> str:
        """What is missing, and who has it: of GPUs that the user named, or if it is no run."""
        known = (job.gpus, job.named, pool, free)
        text = self._lacks.get(known)
        if text is None:
            text = f"{_needs(job)}, {free.bit_count()} free"
            told = pool & ~free if job.named else pool & self._stuck
            if taken := [gpu for gpu in self._gpus if self._bit[gpu.uuid] & told]:
                text += f" ({', '.join(map(self._holder, taken[:_MOST_NAMED]))})"
            self._lacks[known] = text
        return text

    def _holder(self, gpu: Gpu) -> str:
        return f"GPU {gpu.index}: {gpu.taken or f'goes to {self._given[gpu.uuid]}'}"


def _needs(job: Waiting) -> str:
    return f"needs {job.gpus} GPU{'s' if job.gpus > 1 else ''}"
