"""Which rank hangs: the one judge of silence. Pure: no clock, no files, no processes.

A rank is silent while the sequence number on its page stays the same, as counted by the reader's
clock alone. Who may be silent for how long:

- Each phase has a floor, is learned (five times the longest usual silence), and a rank may promise
  a later beat. A phase that is not learned yet is given the same time once more where CPU time, the
  log or what the rank's loader workers read show work.
- Ranks wait for each other only in INIT, BACKWARD, OPTIMIZER and CHECKPOINT. There a rank is
  excused while one that it may wait for (no further in steps, not evaluating, not done) is within
  its own deadline, and its count begins anew when that one beats. Elsewhere there are no
  collectives (an evaluation exchanges files, and ticks): a rank answers for itself.
- What a debugger holds is not judged. What SIGSTOP holds is, and said to be so.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestra.wire.heartbeat import Beat, Phase

WAITING = frozenset({Phase.INIT, Phase.BACKWARD, Phase.OPTIMIZER, Phase.CHECKPOINT})
"""Phases in which a rank may wait for another one."""
_COMPUTING = frozenset({Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER})
"""Phases with the short floor: a loader may have to wait for a slow disk."""
_ORDER = (
    Phase.IMPORT,
    Phase.EVALUATION,
    Phase.CHECKPOINT,
    Phase.INIT,
    Phase.DATA,
    Phase.FORWARD,
    Phase.BACKWARD,
    Phase.OPTIMIZER,
    Phase.DONE,
)
"""In which phases follow each other at one step."""
_EXCUSE_NOBODY = frozenset({Phase.EVALUATION, Phase.DONE})

LONGEST_TURN_S = 2.0
"""What counts at most of the time between two looks: the reader was asleep for the rest."""
_ENOUGH = 20  # silences of a phase that teach its deadline
_REMEMBERED = 1000  # silences of a phase
_FACTOR = 5.0
_BUSY = 0.1  # of the time, on a CPU
_QUIET = 0.5  # of its deadline: beyond that a rank's silence is worth a word
_NOT_JUDGED = frozenset({"t", "Z", "X", ""})


@dataclass(frozen=True)
class Signs:
    """What else shows that a rank is at work."""

    cpu_s: float
    """Of the rank and its children."""
    log_bytes: int
    moved_bytes: int
    """Read and written by its children."""
    state: str
    """The kernel's letter: R, S, D, T (stopped), t (held by a debugger), Z; empty: gone."""


@dataclass(frozen=True)
class Deadlines:
    """Floors: no rank is judged sooner."""

    step_s: float
    long_s: float

    def floor_s(self, phase: Phase) -> float:
        """Of a phase."""
        return self.step_s if phase in _COMPUTING else self.long_s


@dataclass(frozen=True)
class Stall:
    """The rank that stalled first, as far as can be seen from outside."""

    rank: int
    pid: int
    """0: it never had a page."""
    phase: Phase
    step: int
    silent_s: float
    deadline_s: float
    state: str
    others: tuple[tuple[int, Phase, int], ...]
    """(rank, phase, step) of the rest."""

    @property
    def sentence(self) -> str:
        """Who, where, for how long."""
        silence = f"no heartbeat for {self.silent_s:.0f} s (deadline {self.deadline_s:.0f} s)"
        if not self.pid:
            return f"rank {self.rank} never started: {silence}"
        where = f"in {self.phase.name.lower()} at step {self.step}"
        if self.state == "T":
            return f"rank {self.rank} was stopped (SIGSTOP) {where}: {silence}"
        if self.state == "D":
            where += ", waiting in the kernel (state D)"
        return f"rank {self.rank} hung {where}: {silence}"


@dataclass(frozen=True)
class Silence:
    """The rank that will be named as stalled if no beat comes."""

    rank: int
    pid: int
    """0: it never had a page."""
    phase: Phase
    step: int
    silent_s: float
    left_s: float
    """Until the verdict; a rank that shows work may then get more time."""
    state: str
    """The kernel's letter, halfway to its deadline."""


@dataclass
class _Watched:
    """What is known of one rank."""

    rank: int
    beat: Beat | None = None
    silent_s: float = 0.0
    """Since its last beat."""
    waited_s: float = 0.0
    """Since the last beat of its own or of one that it waited for: what it answers for."""
    before: Signs | None = None
    """Halfway to the deadline."""
    extended: bool = False

    @property
    def phase(self) -> Phase:
        return self.beat.phase if self.beat else Phase.IMPORT

    @property
    def step(self) -> int:
        return self.beat.step if self.beat else 0

    @property
    def promise_s(self) -> float:
        return self.beat.promise_s if self.beat else 0.0

    def waits_for(self, other: _Watched) -> bool:
        """Whether it may wait for that one; it does not for one that is further."""
        behind = other.step <= self.step and other.phase not in _EXCUSE_NOBODY
        return other is not self and self.phase in WAITING and behind

    def forgive(self) -> None:
        """Begin to count anew."""
        self.waited_s, self.before, self.extended = 0.0, None, False


@dataclass
class _Lessons:
    """The silences that were seen in one phase, of all ranks."""

    silences_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def enough(self) -> bool:
        return len(self.silences_s) >= _ENOUGH

    def deadline_s(self) -> float:
        """Five times the 99th percentile; 0 before there are enough of them."""
        if not self.enough:
            return 0.0
        ordered = sorted(self.silences_s)
        return _FACTOR * ordered[math.ceil(0.99 * len(ordered)) - 1]


class Judge:
    """Of one attempt; to be asked again and again."""

    def __init__(self, world_size: int, deadlines: Deadlines) -> None:
        self._ranks = [_Watched(rank) for rank in range(world_size)]
        self._deadlines = deadlines
        self._lessons = {phase: _Lessons() for phase in Phase}
        # One look after a sleep is no verdict, however short the deadlines.
        self._longest_turn_s = min(LONGEST_TURN_S, deadlines.step_s / 2, deadlines.long_s / 2)

    def see(
        self, beats: Sequence[Beat], elapsed_s: float, signs: Callable[[int], Signs]
    ) -> Stall | None:
        """Judge what the pages say now.

        Args:
            elapsed_s: by the reader's monotonic clock since the last call.
            signs: of a rank that has a page; asked only of one that is silent for long.
        """
        self._count(beats, min(elapsed_s, self._longest_turn_s))
        self._look_half_way(signs)
        late = [each for each in self._ranks if self._is_late(each)]
        found = {each.rank: signs(each.rank) for each in late if each.beat}
        spared = [each for each in late if each.beat and self._spares(each, found[each.rank])]
        if not late or spared:  # others may wait for those that are spared: look again
            return None
        states = {rank: its.state for rank, its in found.items()}
        return self._name(min(late, key=lambda one: _blame(one, states)), states)

    def outlook(self) -> Silence | None:
        """Who is on the way to a verdict; None while every silence is usual.

        Half of the deadline must be over, two and a half times what is usual in a phase that is
        known, and all the time that the rank promised for a long write or evaluation.
        """
        quiet = [each for each in self._ranks if self._is_late(each, _QUIET)]
        states = {each.rank: each.before.state for each in quiet if each.before}
        if not quiet or not _NOT_JUDGED.isdisjoint(states.values()):
            return None
        one = min(quiet, key=lambda one: _blame(one, states))
        return Silence(
            rank=one.rank,
            pid=one.beat.pid if one.beat else 0,
            phase=one.phase,
            step=one.step,
            silent_s=one.silent_s,
            left_s=max(0.0, min(map(self._left_s, quiet))),
            state=states.get(one.rank, ""),
        )

    def _count(self, beats: Sequence[Beat], elapsed_s: float) -> None:
        """Add to the silences; a page that can't be read now counts as unchanged."""
        now = {beat.rank: beat for beat in beats}
        beating = [each for each in self._ranks if _is_news(each.beat, now.get(each.rank))]
        for each in self._ranks:
            each.silent_s += elapsed_s
            each.waited_s += elapsed_s
            if any(each.waits_for(other) for other in beating):
                each.forgive()
        for each in beating:
            if each.beat is not None:
                self._lessons[each.phase].silences_s.append(each.waited_s)
            each.beat, each.silent_s = now[each.rank], 0.0
            each.forgive()

    def _look_half_way(self, signs: Callable[[int], Signs]) -> None:
        """What a rank shows halfway to its deadline tells whether it works from there on."""
        for each in self._ranks:
            judged = each.beat is not None and each.phase is not Phase.DONE
            if judged and each.before is None and each.waited_s > self._least_s(each) / 2:
                each.before = signs(each.rank)

    def _is_late(self, one: _Watched, share: float = 1.0) -> bool:
        """Whether it is silent for too long and nobody excuses it; `share`: of the deadlines."""
        if one.phase is Phase.DONE or self._is_in_time(one, share):
            return False
        awaited = (other for other in self._ranks if one.waits_for(other))
        return not any(self._is_in_time(other, share) for other in awaited)

    def _is_in_time(self, one: _Watched, share: float) -> bool:
        least_s = max(share * self._least_s(one), one.promise_s)
        return one.waited_s <= least_s or one.waited_s <= share * self._deadline_s(one)

    def _left_s(self, one: _Watched) -> float:
        """Until neither it nor one that it waits for is in time."""
        those = [one, *(other for other in self._ranks if one.waits_for(other))]
        return max(self._deadline_s(each) - each.waited_s for each in those)

    def _least_s(self, one: _Watched) -> float:
        """What it has in any case."""
        return max(self._deadlines.floor_s(one.phase), one.promise_s)

    def _deadline_s(self, one: _Watched) -> float:
        usual_s = max(self._least_s(one), self._lessons[one.phase].deadline_s())
        return 2 * usual_s if one.extended else usual_s

    def _spares(self, one: _Watched, now: Signs) -> bool:
        """Give a late rank more time: a debugger's, a dead one (others see to that), one at work.

        Work counts once, in a phase that nobody knows yet: also what hangs may look busy.
        """
        if now.state in _NOT_JUDGED:
            one.forgive()
            return True
        if one.extended or one.before is None or self._lessons[one.phase].enough:
            return False
        worked_s = now.cpu_s - one.before.cpu_s
        busy = worked_s > _BUSY * self._deadline_s(one) / 2
        told = now.log_bytes > one.before.log_bytes
        one.extended = busy or told or now.moved_bytes > one.before.moved_bytes
        return one.extended

    def _name(self, one: _Watched, states: dict[int, str]) -> Stall:
        return Stall(
            rank=one.rank,
            pid=one.beat.pid if one.beat else 0,
            phase=one.phase,
            step=one.step,
            silent_s=one.silent_s,
            deadline_s=self._deadline_s(one),
            state=states.get(one.rank, ""),
            others=tuple((each.rank, each.phase, each.step) for each in self._ranks if each != one),
        )


def _is_news(before: Beat | None, now: Beat | None) -> bool:
    return now is not None and (before is None or now.sequence != before.sequence)


def _blame(one: _Watched, states: dict[int, str]) -> tuple[bool, int, int, float]:
    """Smallest for the one that the others most likely wait for."""
    stopped = states.get(one.rank) == "T"
    return (not stopped, one.step, _ORDER.index(one.phase), -one.silent_s)
