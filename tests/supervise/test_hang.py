"""The judge of silence against scripted ranks: no clock, no process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.supervise.hang import Deadlines, Judge, Signs, Stall
from orchestra.wire.heartbeat import Beat, Phase

STEP_S, LONG_S = 30.0, 300.0
LOOK_S, COARSE_S = 0.2, 1.0
JUDGED = [phase for phase in Phase if phase is not Phase.DONE]
FLOORS = {
    phase: STEP_S if phase in (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER) else LONG_S
    for phase in JUDGED
}


@dataclass
class World:
    """Ranks whose pages a test writes, and the judge that reads them."""

    size: int = 2
    now_s: float = 0.0
    states: dict[int, str] = field(default_factory=dict)
    cpu_s: Callable[[float], float] = lambda now_s: 0.0
    log_bytes: Callable[[float], int] = lambda now_s: 0
    moved_bytes: Callable[[float], int] = lambda now_s: 0
    asked: int = 0

    def __post_init__(self) -> None:
        self.judge = Judge(self.size, Deadlines(STEP_S, LONG_S))
        self._beats: dict[int, Beat] = {}

    def beat(self, rank: int, step: int, phase: Phase, promise_s: float = 0.0) -> None:
        before = self._beats.get(rank)
        sequence = before.sequence + 1 if before else 1
        self._beats[rank] = Beat(rank, 100 + rank, 7, sequence, 0, step, phase, promise_s)

    def all_beat(self, step: int, phase: Phase) -> None:
        for rank in range(self.size):
            self.beat(rank, step, phase)

    def signs(self, rank: int) -> Signs:
        self.asked += 1
        state = self.states.get(rank, "S")
        now_s = self.now_s
        return Signs(self.cpu_s(now_s), self.log_bytes(now_s), self.moved_bytes(now_s), state)

    def look(self, elapsed_s: float = LOOK_S) -> Stall | None:
        self.now_s += elapsed_s
        return self.judge.see(list(self._beats.values()), elapsed_s, self.signs)

    def wait(self, for_s: float, each: Callable[[], None] = lambda: None) -> Stall | None:
        """Until a stall or the end of that time; `each` is called before every look."""
        end_s = self.now_s + for_s
        while self.now_s < end_s:
            each()
            if (stall := self.look()) is not None:
                return stall
        return None

    def train(self, steps: int, silences_s: dict[Phase, float] | None = None) -> None:
        """So many steps of all ranks without a verdict."""
        for step in range(steps):
            for phase in (Phase.DATA, Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER):
                self.all_beat(step, phase)
                assert self.wait((silences_s or {}).get(phase, LOOK_S)) is None


def steadily(
    world: World, rank: int, step: int, phase: Phase, every_s: float
) -> Callable[[], None]:
    """A rank that beats as often as it says."""
    due = [world.now_s]

    def each() -> None:
        if world.now_s >= due[0]:
            due[0] = world.now_s + every_s
            world.beat(rank, step, phase)

    return each


@pytest.mark.parametrize("phase", JUDGED)
def test_silence_beyond_the_deadline_of_its_phase_is_a_stall(phase: Phase) -> None:
    world = World(size=1)
    world.beat(0, 12, phase)
    assert world.wait(FLOORS[phase]) is None
    stall = world.wait(1.0)
    assert stall is not None, "within a second after the deadline"
    assert (stall.rank, stall.pid, stall.phase, stall.step) == (0, 100, phase, 12)
    assert stall.sentence == (
        f"rank 0 hung in {phase.name.lower()} at step 12: no heartbeat for "
        f"{FLOORS[phase]:.0f} s (deadline {FLOORS[phase]:.0f} s)"
    )


def test_who_is_done_is_not_judged() -> None:
    world = World(size=1)
    world.beat(0, 12, Phase.DONE)
    assert world.wait(10 * LONG_S) is None
    assert world.asked == 0


@pytest.mark.parametrize("phase", JUDGED)
def test_a_suspended_machine_is_no_silence(phase: Phase) -> None:
    world = World(size=1)
    world.beat(0, 12, phase)
    world.wait(5.0)
    assert world.look(elapsed_s=8 * 3600.0) is None
    assert world.wait(FLOORS[phase] - 10.0) is None
    world.beat(0, 12, phase)
    assert world.wait(FLOORS[phase] - 1.0) is None


@pytest.mark.parametrize("phase", JUDGED)
def test_nor_is_it_where_deadlines_are_shorter_than_a_turn(phase: Phase) -> None:
    world = World(size=1)
    world.judge = Judge(1, Deadlines(step_s=1.0, long_s=1.0))
    world.beat(0, 12, phase)
    assert world.look() is None
    assert world.look(elapsed_s=8 * 3600.0) is None
    world.beat(0, 12, phase)
    assert world.look() is None
    assert world.wait(3.0) is not None


def test_procfs_is_not_read_while_all_is_well() -> None:
    world = World()
    world.train(steps=200)
    assert world.asked == 0


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("T", "rank 1 was stopped (SIGSTOP) in forward at step 3: no heartbeat for 30 s"),
        ("D", "rank 1 hung in forward at step 3, waiting in the kernel (state D): no heartbeat"),
    ],
)
def test_the_sentence_tells_what_the_kernel_knows(state: str, sentence: str) -> None:
    world = World(states={1: state})
    world.beat(0, 3, Phase.BACKWARD)
    world.beat(1, 3, Phase.FORWARD)
    stall = world.wait(STEP_S + 1.0)
    assert stall is not None and stall.sentence.startswith(sentence)
    assert stall.others == ((0, Phase.BACKWARD, 3),)


@pytest.mark.parametrize("phase", [Phase.DATA, Phase.BACKWARD])
def test_what_a_debugger_holds_is_not_judged_nor_who_waits_for_it(phase: Phase) -> None:
    world = World(states={1: "t"})
    world.beat(0, 3, Phase.BACKWARD)
    world.beat(1, 3, phase)
    assert world.wait(20 * STEP_S) is None
    world.states[1] = "S"
    stall = world.wait(2 * STEP_S + 1.0)
    assert stall is not None, "once it is let go it is judged again"


@pytest.mark.parametrize("state", ["", "Z"])
def test_a_death_is_for_others_to_notice(state: str) -> None:
    world = World(size=1, states={0: state})
    world.beat(0, 3, Phase.DATA)
    assert world.wait(10 * STEP_S) is None


@pytest.mark.parametrize("beaten", [True, False])
def test_a_rank_that_never_starts_is_named(beaten: bool) -> None:
    world = World()
    if beaten:
        world.beat(0, 0, Phase.INIT)
    assert world.wait(LONG_S - 1.0) is None
    stall = world.wait(2.0)
    assert stall is not None
    assert (stall.rank, stall.pid) == (1 if beaten else 0, 0)
    assert stall.sentence == (
        f"rank {stall.rank} never started: no heartbeat for 300 s (deadline 300 s)"
    )


def test_a_rank_that_starts_late_excuses_those_that_wait_for_it() -> None:
    world = World()
    world.beat(0, 0, Phase.INIT)
    assert world.wait(LONG_S - 1.0) is None
    world.beat(1, 0, Phase.IMPORT)
    assert world.wait(LONG_S - 1.0) is None
    world.beat(1, 0, Phase.INIT)
    assert world.wait(LONG_S - 1.0) is None


def test_a_slow_save_excuses_the_ranks_that_wait_in_the_next_step() -> None:
    """Half an hour of it, as long as something gets written."""
    world = World()
    world.beat(1, 8, Phase.BACKWARD)
    saving = steadily(world, 0, 8, Phase.CHECKPOINT, every_s=100.0)
    assert world.wait(1800.0, saving) is None
    for phase in (Phase.DATA, Phase.FORWARD, Phase.BACKWARD):
        world.beat(0, 8, phase)
        assert world.wait(STEP_S - 1.0) is None


def test_a_save_that_is_stuck_is_named_not_those_that_wait_for_it() -> None:
    world = World()
    world.beat(1, 8, Phase.BACKWARD)
    saving = steadily(world, 0, 8, Phase.CHECKPOINT, every_s=100.0)
    assert world.wait(450.0, saving) is None
    stall = world.wait(LONG_S + 1.0)
    assert stall is not None
    assert (stall.rank, stall.phase) == (0, Phase.CHECKPOINT)


def test_a_slow_loader_excuses_the_ranks_that_wait_for_its_gradients() -> None:
    world = World(size=3)
    for step in range(5):
        for rank in (0, 2):
            world.beat(rank, step, Phase.BACKWARD)
        for _ in range(4):  # micro-batches
            world.beat(1, step, Phase.DATA)
            assert world.wait(STEP_S - 1.0) is None
            world.beat(1, step, Phase.FORWARD)
            assert world.wait(1.0) is None
        world.beat(1, step, Phase.BACKWARD)
        assert world.wait(1.0) is None


def test_who_falls_behind_after_the_gradients_met_has_its_whole_deadline() -> None:
    """It waited long for another; that one is a step further when the reader looks again."""
    world = World()
    world.beat(1, 5, Phase.BACKWARD)
    world.beat(0, 5, Phase.DATA, promise_s=100.0)
    assert world.wait(99.0) is None
    world.beat(0, 6, Phase.DATA, promise_s=100.0)
    assert world.wait(STEP_S - 1.0) is None
    stall = world.wait(2.0)
    assert stall is not None and (stall.rank, stall.step) == (1, 5)
    assert stall.silent_s > 99.0 + STEP_S - 1.0, "what is told is the silence as it was"


@pytest.mark.parametrize("stuck", [None, 1])
def test_in_an_evaluation_each_rank_answers_for_itself(stuck: int | None) -> None:
    world = World()
    world.beat(1, 9, Phase.EVALUATION)
    ticks = [steadily(world, 0, 9, Phase.EVALUATION, every_s=0.05)]
    if stuck is None:
        ticks.append(steadily(world, 1, 9, Phase.EVALUATION, every_s=200.0))  # long batches

    def each() -> None:
        for tick in ticks:
            tick()

    assert world.wait(LONG_S - 1.0, each) is None
    stall = world.wait(4 * LONG_S, each)
    assert (stall.rank if stall else None) == stuck


def test_a_rank_that_is_stuck_before_an_evaluation_is_not_excused_by_one_that_ticks() -> None:
    world = World()
    world.beat(1, 9, Phase.INIT)
    stall = world.wait(LONG_S + 1.0, steadily(world, 0, 9, Phase.EVALUATION, every_s=0.05))
    assert stall is not None and (stall.rank, stall.phase) == (1, Phase.INIT)


def test_a_promise_is_kept_to_and_not_beyond() -> None:
    world = World(size=1)
    world.beat(0, 4, Phase.CHECKPOINT, promise_s=1000.0)
    assert world.wait(1000.0) is None
    stall = world.wait(1.0)
    assert stall is not None and stall.deadline_s == 1000.0


def test_usual_silences_teach_the_deadline() -> None:
    world = World()
    world.train(steps=12, silences_s={Phase.FORWARD: 20.0})
    world.all_beat(12, Phase.FORWARD)
    assert world.wait(5 * 20.0 - 1.0) is None
    stall = world.wait(5.0)
    assert stall is not None and stall.deadline_s == pytest.approx(100.0, abs=3.0)
    # The control: another phase has learned nothing of it.
    world.all_beat(13, Phase.OPTIMIZER)
    assert world.wait(STEP_S + 1.0) is not None


def test_a_wait_for_another_rank_teaches_nothing() -> None:
    world = World()
    for step in range(30):
        world.beat(1, step, Phase.BACKWARD)
        world.beat(0, step, Phase.DATA)
        assert world.wait(25.0) is None
        world.beat(0, step, Phase.BACKWARD)
        assert world.wait(LOOK_S) is None
        world.all_beat(step, Phase.OPTIMIZER)
        assert world.wait(LOOK_S) is None
    world.all_beat(30, Phase.BACKWARD)
    stall = world.wait(STEP_S + 1.0)
    assert stall is not None and stall.deadline_s == STEP_S


@pytest.mark.parametrize("sign", ["cpu", "log", "loader"])
def test_work_extends_a_phase_that_is_not_known_yet_once(sign: str) -> None:
    world = World(size=1)
    if sign == "cpu":
        world.cpu_s = lambda now_s: now_s
    elif sign == "log":
        world.log_bytes = int
    else:
        world.moved_bytes = int
    world.beat(0, 0, Phase.DATA)
    assert world.wait(2 * LONG_S) is None
    stall = world.wait(1.0)
    assert stall is not None and stall.deadline_s == 2 * LONG_S


def test_work_proves_nothing_in_a_phase_that_is_known() -> None:
    world = World(cpu_s=lambda now_s: now_s)
    world.train(steps=12)
    world.all_beat(12, Phase.BACKWARD)
    assert world.wait(STEP_S + 1.0) is not None


def test_a_little_work_is_none() -> None:
    world = World(size=1, cpu_s=lambda now_s: 0.01 * now_s)
    world.beat(0, 0, Phase.INIT)
    assert world.wait(LONG_S + 1.0) is not None


def test_a_page_that_cannot_be_read_counts_as_unchanged() -> None:
    """As that of a rank that was stopped in the middle of a beat."""
    world = World(size=1)
    world.beat(0, 2, Phase.FORWARD)
    world.look()
    world._beats.clear()
    stall = world.wait(STEP_S + 1.0)
    assert stall is not None and (stall.phase, stall.step) == (Phase.FORWARD, 2)


@pytest.mark.parametrize(
    ("beats", "states", "guilty"),
    [
        ({0: (7, Phase.BACKWARD), 1: (7, Phase.BACKWARD), 2: (7, Phase.FORWARD)}, {}, 2),
        ({0: (7, Phase.BACKWARD), 1: (6, Phase.OPTIMIZER), 2: (7, Phase.BACKWARD)}, {}, 1),
        ({0: (7, Phase.FORWARD), 1: (7, Phase.BACKWARD), 2: (7, Phase.FORWARD)}, {1: "T"}, 1),
        ({0: (7, Phase.BACKWARD), 1: (7, Phase.OPTIMIZER), 2: (7, Phase.OPTIMIZER)}, {}, 0),
    ],
)
def test_of_many_silent_ranks_the_one_that_the_others_wait_for_is_named(
    beats: dict[int, tuple[int, Phase]], states: dict[int, str], guilty: int
) -> None:
    world = World(size=3, states=states)
    for rank, (step, phase) in beats.items():
        world.beat(rank, step, phase)
    stall = world.wait(STEP_S + 1.0)
    assert stall is not None and stall.rank == guilty


def test_of_equals_the_one_silent_for_longest_is_named() -> None:
    world = World(size=2)
    world.beat(0, 6, Phase.OPTIMIZER)
    world.beat(1, 7, Phase.BACKWARD)
    world.look()
    world.beat(0, 7, Phase.BACKWARD)
    stall = world.wait(STEP_S + 1.0)
    assert stall is not None and stall.rank == 1


def test_half_way_to_the_verdict_it_is_told_with_the_time_left() -> None:
    world = World()
    world.beat(0, 3, Phase.BACKWARD)
    world.beat(1, 3, Phase.FORWARD)
    assert world.wait(STEP_S / 2) is None
    assert world.judge.outlook() is None
    world.look()
    silence = world.judge.outlook()
    assert silence is not None
    assert (silence.rank, silence.pid, silence.phase, silence.step) == (1, 101, Phase.FORWARD, 3)
    assert silence.left_s == pytest.approx(STEP_S / 2, abs=2 * LOOK_S)
    foretold_s = world.now_s + silence.left_s
    stall = world.wait(STEP_S)
    assert stall is not None and stall.rank == silence.rank
    assert world.now_s == pytest.approx(foretold_s, abs=2 * LOOK_S)


def test_a_beat_takes_it_back() -> None:
    world = World(size=1)
    world.beat(0, 3, Phase.FORWARD)
    world.wait(STEP_S - 1.0)
    assert world.judge.outlook() is not None
    world.beat(0, 4, Phase.FORWARD)
    world.look()
    assert world.judge.outlook() is None


def test_a_rank_that_never_starts_is_told() -> None:
    world = World()
    world.beat(0, 0, Phase.INIT)
    world.wait(LONG_S - 1.0)
    silence = world.judge.outlook()
    assert silence is not None and (silence.rank, silence.pid) == (1, 0)


@pytest.mark.parametrize(
    ("phase", "promise_s", "lasts_s"),
    [
        (Phase.CHECKPOINT, 120.0, 120.0),  # a write
        (Phase.EVALUATION, 1800.0, 1800.0),  # scoring
        (Phase.DATA, 0.0, LONG_S / 2),
    ],
)
def test_what_is_promised_and_usual_is_not_told(
    phase: Phase, promise_s: float, lasts_s: float
) -> None:
    world = World(size=1)
    world.beat(0, 4, phase, promise_s=promise_s)

    def nothing_to_tell() -> None:
        assert world.judge.outlook() is None

    assert world.wait(lasts_s, nothing_to_tell) is None


def test_a_promise_shorter_than_half_of_the_deadline_changes_nothing() -> None:
    world = World(size=1)
    world.beat(0, 4, Phase.EVALUATION, promise_s=LONG_S / 4)
    world.wait(LONG_S / 2)
    assert world.judge.outlook() is None
    world.look()
    assert world.judge.outlook() is not None


def test_what_lasts_longer_than_promised_is_told() -> None:
    world = World(size=1, cpu_s=lambda now_s: now_s)  # it seems to work: it has more time
    world.beat(0, 4, Phase.EVALUATION, promise_s=1800.0)
    assert world.wait(1801.0) is None
    silence = world.judge.outlook()
    assert silence is not None and silence.left_s == pytest.approx(1800.0, abs=2.0)


def test_what_a_phase_has_taught_is_not_told() -> None:
    world = World()
    world.train(steps=12, silences_s={Phase.FORWARD: 20.0})
    world.all_beat(12, Phase.FORWARD)
    assert world.wait(40.0) is None
    assert world.judge.outlook() is None
    world.wait(15.0)
    silence = world.judge.outlook()
    assert silence is not None and silence.left_s == pytest.approx(45.0, abs=4.0)


def test_who_waits_for_a_slow_save_is_not_told() -> None:
    """Until that save is silent for long itself: then it is, and the deadline is its own."""
    world = World()
    world.beat(1, 8, Phase.BACKWARD)
    world.beat(0, 8, Phase.CHECKPOINT)
    world.wait(LONG_S / 2 - 1.0)
    assert world.judge.outlook() is None
    world.wait(2.0)
    silence = world.judge.outlook()
    assert silence is not None and (silence.rank, silence.phase) == (0, Phase.CHECKPOINT)
    assert silence.left_s == pytest.approx(LONG_S / 2, abs=2.0)


def test_what_a_debugger_holds_is_not_told() -> None:
    world = World(states={1: "t"})
    world.beat(0, 3, Phase.BACKWARD)
    world.beat(1, 3, Phase.FORWARD)
    world.wait(STEP_S - 1.0)
    assert world.judge.outlook() is None


def test_more_time_for_work_is_told() -> None:
    world = World(size=1, cpu_s=lambda now_s: now_s)
    world.beat(0, 0, Phase.DATA)
    assert world.wait(LONG_S + 1.0) is None
    silence = world.judge.outlook()
    assert silence is not None and silence.left_s == pytest.approx(LONG_S, abs=2.0)


@dataclass(frozen=True)
class Plan:
    """What the ranks of a run do: durations of each step, by rank."""

    steps: list[list[tuple[float, float, float]]]
    """[step][rank]: seconds in data, forward, backward."""
    saves_s: list[float]
    """[step]: of rank 0 alone, 0 for none."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    ranks, count = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    short, long = st.floats(0.0, STEP_S - 1.0), st.floats(1.0, LONG_S - 1.0)
    steps = [
        [(draw(short), draw(short), draw(st.floats(0.0, 5.0))) for _ in range(ranks)]
        for _ in range(count)
    ]
    return Plan(steps, [draw(st.just(0.0) | long) for _ in range(count)])


Event = tuple[float, int, int, Phase]
"""(second, rank, step, phase)."""


def events(plan: Plan, frozen: tuple[int, int, Phase] | None = None) -> Iterator[Event]:
    """The beats of ranks that wait for each other's gradients.

    Args:
        frozen: (rank, step, phase) of the last beat of one that freezes then; the others go on
            until they wait for its gradients.
    """
    free_s = [0.0] * len(plan.steps[0])
    stuck: int | None = None
    for step, (ranks, save_s) in enumerate(zip(plan.steps, plan.saves_s, strict=True)):
        computed_s = []
        for rank, (data_s, forward_s, backward_s) in enumerate(ranks):
            lasting = [(Phase.DATA, data_s), (Phase.FORWARD, forward_s)]
            if save_s and rank == 0:
                lasting.insert(0, (Phase.CHECKPOINT, save_s))
            now_s = free_s[rank]
            for phase, duration_s in [*lasting, (Phase.BACKWARD, backward_s)]:
                if rank == stuck:
                    break
                yield now_s, rank, step, phase
                now_s += duration_s
                stuck = rank if (rank, step, phase) == frozen else stuck
            computed_s.append(now_s)
        if stuck is not None:
            return
        met_s = max(computed_s)
        for rank in range(len(ranks)):
            yield met_s, rank, step, Phase.OPTIMIZER
            free_s[rank] = met_s + 0.01
            stuck = rank if (rank, step, Phase.OPTIMIZER) == frozen else stuck
    for rank, end_s in enumerate(free_s):
        if rank != stuck:
            yield end_s, rank, len(plan.steps), Phase.DONE


def play(world: World, script: list[Event], until_s: float) -> Stall | None:
    """The script, then silence."""
    ahead = iter(sorted(script))
    event = next(ahead, None)
    while world.now_s < until_s:
        while event is not None and event[0] <= world.now_s:
            _, rank, step, phase = event
            world.beat(rank, step, phase)
            event = next(ahead, None)
        if (stall := world.look(COARSE_S)) is not None:
            return stall
    return None


@given(plans())
@settings(max_examples=30, deadline=None)
def test_no_run_whose_ranks_keep_their_deadlines_is_judged(plan: Plan) -> None:
    script = list(events(plan))
    world = World(size=len(plan.steps[0]))
    assert play(world, script, max(second for second, *_ in script) + 2 * LONG_S) is None


@given(plans(), st.data())
@settings(max_examples=30, deadline=None)
def test_a_rank_that_freezes_is_found_in_time(plan: Plan, data: st.DataObject) -> None:
    whole = [event[1:] for event in events(plan) if event[3] is not Phase.DONE]
    frozen = data.draw(st.sampled_from(whole))
    script = list(events(plan, frozen))
    world = World(size=len(plan.steps[0]))
    last_s = max(second for second, *_ in script)
    stall = play(world, script, last_s + FLOORS[frozen[2]] + 3 * COARSE_S)
    assert stall is not None
    if frozen[2] is not Phase.BACKWARD:  # there nobody outside can tell
        assert (stall.rank, stall.step, stall.phase) == frozen
