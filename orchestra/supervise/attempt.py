"""Watches one launch until its agent has ended. Knows when and how to kill, not why to restart.

`Watch.run` reads as the list of what is looked at in each turn.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestra.supervise import stacks, tree
from orchestra.supervise.events import Events
from orchestra.supervise.hang import Deadlines, Judge, Signs, Silence, Stall
from orchestra.supervise.launcher import Agent
from orchestra.supervise.log import log
from orchestra.supervise.reaper import ExitStatus
from orchestra.supervise.signs import read_signs
from orchestra.supervise.stall_note import StallNote
from orchestra.supervise.tail import Tail
from orchestra.wire.folders import AttemptFolder
from orchestra.wire.heartbeat import Beat, Pages, Phase, pages_folder
from orchestra.wire.identity import ProcessIdentity, start_ticks
from orchestra.wire.job import StopFlag

_TURN_S = 0.2
_STARTING_TURN_S = 0.05  # until every rank is known
_TERMINATION_S = 2.0  # from SIGTERM to the agent until SIGKILL to all
_SETTLE_S = 0.1  # from a rank's death until the other ranks are killed
_STACKS_S = 3.0  # for all ranks of a hanging attempt to write their stacks; the disk may be busy
_KILL_S = 0.5
_VERDICT_S = 3.0  # from a rank's death until the agent, which writes failures.json, is killed
_FAREWELL_S = 10.0  # from the last rank's end until the agent, which has nothing left to do, is


@dataclass(frozen=True)
class Outcome:
    """How a launch ended."""

    agent: ExitStatus
    first_dead: int | None  # pid of the rank that was seen dying first
    beats: tuple[Beat, ...]  # the last of each rank that ever beat
    step: int  # newest one heard of
    first_step: int  # it started from
    stall: Stall | None = None  # for whose sake all were killed


class Watch:
    """One running launch."""

    def __init__(
        self,
        *,
        agent: Agent,
        folder: AttemptFolder,
        tag: str,
        nproc: int,
        deadlines: Deadlines,
        events: Events,
        tail: Tail,
        stop_flag: Callable[[], StopFlag | None],
        on_agent: Callable[[int], None],
        on_ranks: Callable[[tuple[int, ...]], None],
        on_running: Callable[[], None],
        on_stopping: Callable[[], None],
        on_stall: Callable[[str], None],
        after_silence: Callable[[Silence], str],
        on_turn: Callable[[], object],
    ) -> None:
        self._agent = agent
        self._folder = folder
        self._tag = tag
        self._pages = Pages(pages_folder(tag))
        self._nproc = nproc
        self._events = events
        self._tail = tail
        self._stop_flag = stop_flag
        self._on_agent = on_agent
        self._on_ranks = on_ranks
        self._on_running = on_running
        self._on_stopping = on_stopping
        self._on_stall = on_stall
        self._on_turn = on_turn
        self._beats: dict[int, Beat] = {}  # by rank; the last that could be read
        self._ranks: dict[int, int] = {}  # rank -> pid
        self._dead: set[int] = set()
        self._judge = Judge(nproc, deadlines)
        self._note = StallNote(pages_folder(tag), after_silence)
        self._goodbye_s = deadlines.long_s
        self._judged_at = time.monotonic()
        self._stall: Stall | None = None
        self._leaving = False
        self._first_dead: int | None = None
        self._running = False
        self._flag: StopFlag | None = None
        self._plan: list[tuple[float, Callable[[], None]]] = []  # (monotonic s, what to do then)

    def run(self) -> Outcome:
        """Return when the agent has ended and is reaped; other processes may still live."""
        while (status := self._agent.status) is None:
            died = self._events.wait(self._turn_s())
            self._read_beats()
            self._note_deaths(died)
            self._find_ranks()
            self._tail.poll()
            self._report_running()
            self._obey_stop()
            self._look_for_hang()
            self._tell_silence()
            self._end_the_done()
            self._act_on_plan()
            self._on_turn()
            self._find_agent()
        self._events.forget_all()
        self._tail.close()
        stacks.tidy(self._folder)
        self._read_beats()
        self._pages.close()
        beats = tuple(self._beats[rank] for rank in sorted(self._beats))
        step, first_step = self._tail.step, self._tail.first_step
        return Outcome(status, self._first_dead, beats, step, first_step, self._stall)

    def _read_beats(self) -> None:
        self._beats |= {beat.rank: beat for beat in self._pages.read()}

    def _turn_s(self) -> float:
        longest = _TURN_S if len(self._ranks) == self._nproc else _STARTING_TURN_S
        due = min((at for at, _ in self._plan), default=float("inf")) - time.monotonic()
        return min(longest, due)

    def _find_agent(self) -> None:
        before = self._agent.pid
        self._agent.poll()
        if self._agent.pid is not None and before is None:
            self._on_agent(self._agent.pid)

    def _note_deaths(self, died: list[int]) -> None:
        """A rank that dies before it says it is done takes the others with it, quickly."""
        self._dead.update(died)
        if died and len(self._dead) == self._nproc:
            self._after(_FAREWELL_S, self._kill_all)
        if not died or self._first_dead is not None:
            return
        done = {beat.pid for beat in self._beats.values() if beat.phase == Phase.DONE}
        self._first_dead = next((pid for pid in died if pid not in done), None)
        if self._first_dead is not None:
            log(f"the rank with pid {self._first_dead} died")
            self._after(_SETTLE_S, self._kill_ranks)
            self._after(_VERDICT_S, self._kill_all)

    def _find_ranks(self) -> None:
        if len(self._ranks) == self._nproc:
            return
        for beat in self._beats.values():
            alive = start_ticks(beat.pid) == beat.start_ticks
            if beat.rank not in self._ranks and alive and self._events.watch(beat.pid):
                self._ranks[beat.rank] = beat.pid
        if len(self._ranks) == self._nproc:
            self._on_ranks(tuple(self._ranks[rank] for rank in sorted(self._ranks)))

    def _report_running(self) -> None:
        if self._tail.started and not self._running:
            self._running = True
            self._on_running()

    def _obey_stop(self) -> None:
        """Rank 0 reads the flag by itself; here only the end of its patience is set."""
        flag = self._stop_flag()
        if flag == self._flag or flag is None:
            return
        if self._flag is None:
            self._on_stopping()
        self._flag = flag
        if flag.grace_s > 0 and self._agent.pid is not None:
            self._after(flag.grace_s, self._terminate_agent)
            self._after(flag.grace_s + _TERMINATION_S, self._kill_all)
        else:
            self._kill_all()

    def _look_for_hang(self) -> None:
        """Unless the ranks are being ended anyway, each of which has a deadline of its own."""
        now = time.monotonic()
        elapsed_s, self._judged_at = now - self._judged_at, now
        if self._is_ending():
            return
        beats = list(self._beats.values())
        self._stall = self._judge.see(beats, elapsed_s, self._signs)
        if self._stall is not None:
            told = stacks.dump(beats, self._folder, _STACKS_S)
            self._on_stall("; ".join(filter(None, (self._stall.sentence, told))))
            self._kill_ranks()
            self._after(_VERDICT_S, self._kill_all)

    def _is_ending(self) -> bool:
        return self._flag is not None or self._first_dead is not None or self._stall is not None

    def _tell_silence(self) -> None:
        """For whoever looks on: the verdict comes nearer."""
        self._note.tell(None if self._is_ending() else self._judge.outlook(), self._judged_at)

    def _signs(self, rank: int) -> Signs:
        return read_signs(self._beats[rank], self._folder.rank_log(rank))

    def _end_the_done(self) -> None:
        """Ranks that have done their work may take a while to leave, but not for ever."""
        done = [beat for beat in self._beats.values() if beat.phase == Phase.DONE]
        if self._leaving or len(done) < self._nproc:
            return
        self._leaving = True
        self._after(self._goodbye_s, self._kill_all)

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._plan.append((time.monotonic() + delay_s, action))

    def _act_on_plan(self) -> None:
        now = time.monotonic()
        due = [action for at, action in self._plan if at <= now]
        self._plan = [(at, action) for at, action in self._plan if at > now]
        for action in due:
            action()

    def _terminate_agent(self) -> None:
        agent = None if self._agent.pid is None else ProcessIdentity.of(self._agent.pid)
        if agent is not None:
            tree.kill(agent, self._tag, signal.SIGTERM)

    def _kill_ranks(self) -> None:
        """All but the agent, which still has to write down who failed and how."""
        agent = () if self._agent.pid is None else (self._agent.pid,)
        tree.sweep(self._tag, _KILL_S, spare=agent)

    def _kill_all(self) -> None:
        """Everything; again and again, should the agent sit in the kernel for a while.

        Where the agent never came or is dead, its launcher should have told by now.
        """
        if self._agent.pid is None or start_ticks(self._agent.pid) is None:
            self._agent.kill_launcher()
        tree.sweep(self._tag, _KILL_S)
        self._after(_VERDICT_S, self._kill_all)
