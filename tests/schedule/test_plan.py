"""The queue's decisions, without a process: order, leases, limits, and that nobody starves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from orchestra.gpu.probe import Link
from orchestra.registry.rows import JobKey
from orchestra.schedule.plan import BACKFILL_S, Gpu, Plan, Snapshot, Waiting, plan
from orchestra.wire.states import RunState

NOW = 10_000.0


def gpus(*taken: str) -> tuple[Gpu, ...]:
    """One GPU per argument; an empty one is free, and one that is "foreign" is leased by nobody."""
    return tuple(
        Gpu(f"GPU-{index}", index, reason, leased=bool(reason) and "foreign" not in reason)
        for index, reason in enumerate(taken)
    )


def job(name: str, count: int, *, waited: float = 0.0, **more: object) -> Waiting:
    return Waiting(JobKey(name), NOW - waited, count, **more)  # type: ignore[arg-type]


def named(name: str, *uuids: str, waited: float = 0.0) -> Waiting:
    return job(name, len(uuids), waited=waited, pool=uuids, named=True)


def started(verdict: Plan) -> dict[str, tuple[str, ...]]:
    return {str(start.key): start.devices for start in verdict.starts}


def reasons(verdict: Plan) -> dict[str, tuple[int | None, str]]:
    return {str(wait.key): (wait.position, wait.reason) for wait in verdict.waits}


def test_priority_goes_first_then_whoever_came_first() -> None:
    waiting = [
        job("late", 1, waited=1),
        job("early", 1, waited=3),
        job("urgent", 1, waited=0, priority=5),
        job("whenever", 1, waited=9, priority=-1),
    ]
    verdict = plan(Snapshot(NOW, waiting, gpus("", "")))
    assert started(verdict) == {"urgent": ("GPU-0",), "early": ("GPU-1",)}
    assert [str(wait.key) for wait in verdict.waits] == ["late", "whenever"]
    assert [wait.position for wait in verdict.waits] == [1, 2]


def test_of_one_moment_the_first_of_the_list_is_first() -> None:
    verdict = plan(Snapshot(NOW, [job("b", 1), job("a", 1)], gpus("")))
    assert list(started(verdict)) == ["b"]


def test_a_job_on_the_cpu_starts_at_once() -> None:
    waiting = [job("large", 4, waited=9 * BACKFILL_S), job("cpu", 0)]
    verdict = plan(Snapshot(NOW, waiting, gpus("busy"), limit=0, problem="NVML hangs"))
    assert started(verdict) == {"cpu": ()}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (RunState.RUNNING, "waits for run x, which is running"),
        (RunState.QUEUED, "waits for run x, which is queued"),
        (RunState.FAILED, "waits for run x, which failed: resume it or stop this one"),
        (RunState.STOPPED, "waits for run x, which was stopped: resume it or stop this one"),
        (RunState.PREEMPTED, "waits for run x, which was preempted: resume it or stop this one"),
        (None, "waits for run x, which was removed: stop this one"),
    ],
)
def test_a_job_after_another_stands_beside_the_line(state: RunState | None, reason: str) -> None:
    waiting = [
        job("after", 1, waited=9 * BACKFILL_S, after="x", after_state=state),
        job("cpu", 0, after="x", after_state=state),
        job("free", 1),
    ]
    verdict = plan(Snapshot(NOW, waiting, gpus("")))
    assert started(verdict) == {"free": ("GPU-0",)}
    assert reasons(verdict) == {"after": (None, reason), "cpu": (None, reason)}
    done = [replace(each, after_state=RunState.COMPLETED) for each in waiting[:2]]
    assert set(started(plan(Snapshot(NOW, done, gpus(""))))) == {"after", "cpu"}


def test_members_of_a_parent_run_take_turns_on_the_cpu() -> None:
    waiting = [
        *(job(f"a{number}", 0, parent="a") for number in (1, 2)),
        *(job(f"b{number}", 0, parent="b", sibling="b1") for number in (2, 3)),
        job("alone", 0),
        job("alone too", 0),
        *(job(f"g{number}", 1, parent="g", sibling="g1") for number in (2, 3)),
    ]
    verdict = plan(Snapshot(NOW, waiting, gpus("", "")))
    assert list(started(verdict)) == ["a1", "alone", "alone too", "g2", "g3"]
    turns = "members of a parent run take turns on the CPU"
    assert reasons(verdict) == {
        "a2": (None, f"waits for run a1: {turns}"),
        "b2": (None, f"waits for run b1: {turns}"),
        "b3": (None, f"waits for run b1: {turns}"),
    }


def test_backfill_ends_when_the_head_has_waited_long() -> None:
    free = gpus("", "", "leased by run r of user u", "leased by run r of user u")
    for waited, goes in ((BACKFILL_S - 1, True), (BACKFILL_S, False)):
        waiting = [job("large", 4, waited=waited), job("small", 1)]
        verdict = plan(Snapshot(NOW, waiting, free))
        assert ("small" in started(verdict)) == goes
        assert reasons(verdict)["large"] == (1, "needs 4 GPUs, 2 free; next when they are free")
    assert reasons(verdict)["small"] == (2, "needs 1 GPU; the free ones are kept for large")


def test_what_no_run_has_is_told() -> None:
    """Nobody knows when it is free."""
    verdict = plan(Snapshot(NOW, [job("any", 2)], gpus("foreign process", "busy", "")))
    told = "needs 2 GPUs, 1 free (GPU 0: foreign process); next when they are free"
    assert reasons(verdict)["any"] == (1, told)


def test_who_waited_for_another_run_waits_long_only_from_its_end_on() -> None:
    for ended, goes in ((NOW - BACKFILL_S + 1, True), (NOW - BACKFILL_S, False)):
        head = job("head", 2, waited=50 * BACKFILL_S, after="x", after_state=RunState.COMPLETED)
        waiting = [replace(head, after_ended_at=ended), job("small", 1)]
        assert ("small" in started(plan(Snapshot(NOW, waiting, gpus("", "busy"))))) == goes


def test_only_what_the_head_could_use_is_kept() -> None:
    waiting = [
        named("head", "GPU-0", "GPU-1", waited=BACKFILL_S),
        job("any", 1),
        named("kept", "GPU-0"),
        job("cpu", 0),
    ]
    verdict = plan(Snapshot(NOW, waiting, gpus("", "busy", "")))
    assert started(verdict) == {"any": ("GPU-2",), "cpu": ()}
    assert (
        reasons(verdict)["head"][1] == "needs 2 GPUs, 1 free (GPU 1: busy); next when they are free"
    )


def test_what_can_never_start_keeps_nothing() -> None:
    waiting = [
        job("large", 4, waited=BACKFILL_S),
        job("above", 3, waited=BACKFILL_S),
        job("nowhere", 1, waited=BACKFILL_S, pool=(), problem="there is no GPU '7' here"),
        job("small", 1),
    ]
    verdict = plan(Snapshot(NOW, waiting, gpus("", "", "busy"), limit=2))
    assert set(started(verdict)) == {"small"}
    assert [reason for _, reason in reasons(verdict).values()] == [
        "needs 4 GPUs, but there are only 3 that it may use",
        "needs 3 GPUs, but gpus.limit = 2 of this workspace",
        "there is no GPU '7' here",
    ]


def test_a_gpu_in_doubt_is_no_hope_for_those_who_do_not_name_it() -> None:
    cut = Gpu("GPU-0", 0, doubt="unknown: it is cut into MIG instances")
    waiting = [job("large", 2, waited=BACKFILL_S), job("one", 1)]
    verdict = plan(Snapshot(NOW, waiting, (cut, Gpu("GPU-1", 1))))
    assert set(started(verdict)) == {"one"}
    told = f"needs 2 GPUs, but there are only 1 that it may use (GPU 0: {cut.doubt})"
    assert reasons(verdict) == {"large": (1, told)}


def test_where_no_gpu_is_seen_that_is_said() -> None:
    verdict = plan(Snapshot(NOW, [job("a", 1)]))
    assert reasons(verdict)["a"] == (1, "needs 1 GPU, but no GPU can be seen")


@pytest.mark.parametrize(("taken", "goes"), [("busy", False), ("foreign process", True)])
def test_nothing_is_kept_for_who_waits_for_a_foreign_process(taken: str, goes: bool) -> None:
    """It may never end, and a job on other GPUs is not to wait for that."""
    waiting = [named("head", "GPU-0", waited=BACKFILL_S), job("small", 1)]
    verdict = plan(Snapshot(NOW, waiting, gpus(taken, ""), limit=1))
    assert started(verdict) == ({"small": ("GPU-1",)} if goes else {})
    told = "needs 1 GPU; room under gpus.limit is kept for head"
    assert goes or reasons(verdict)["small"] == (2, told)
    waiting = [job("large", 2, waited=BACKFILL_S), job("small", 1)]
    assert ("small" in started(plan(Snapshot(NOW, waiting, gpus(taken, ""))))) == goes


def test_the_limit_counts_what_is_held_and_what_starts() -> None:
    waiting = [job("a", 2), job("b", 2), job("c", 1)]
    verdict = plan(Snapshot(NOW, waiting, gpus(*[""] * 8), limit=4, held=1))
    assert set(started(verdict)) == {"a", "c"}
    full = "gpus.limit = 4 of this workspace"
    assert reasons(verdict) == {"b": (1, f"{full} leaves 1 (3 in use); next when they are free")}
    verdict = plan(Snapshot(NOW, waiting, gpus(*[""] * 8), limit=4, held=4))
    assert reasons(verdict)["b"] == (2, f"{full} reached (4 in use); behind a")


def test_the_limit_does_not_starve_a_large_job() -> None:
    waiting = [job("large", 4, waited=BACKFILL_S), job("small", 1)]
    assert started(plan(Snapshot(NOW, waiting, gpus(*[""] * 8), limit=4, held=1))) == {}


def test_a_gpu_in_doubt_is_for_those_who_name_it() -> None:
    doubtful = (Gpu("GPU-0", 0, doubt="state unknown"),)
    verdict = plan(Snapshot(NOW, [job("any", 1), named("mine", "GPU-0")], doubtful))
    assert started(verdict) == {"mine": ("GPU-0",)}
    assert verdict.starts[0].named


def test_the_reason_names_who_has_a_gpu() -> None:
    waiting = [job("a", 1, priority=1), named("b", "GPU-0"), named("c", "GPU-1")]
    verdict = plan(Snapshot(NOW, waiting, gpus("", "leased by run x of user y")))
    assert reasons(verdict) == {
        "b": (1, "needs 1 GPU, 0 free (GPU 0: goes to a); next when they are free"),
        "c": (2, "needs 1 GPU, 0 free (GPU 1: leased by run x of user y); behind b"),
    }


def test_without_nvml_nothing_starts_on_a_gpu() -> None:
    verdict = plan(Snapshot(NOW, [job("a", 1)], problem="NVML did not answer within 5 s"))
    assert reasons(verdict) == {"a": (1, "NVML did not answer within 5 s")}


def test_linked_gpus_go_together() -> None:
    links = [Link("GPU-0", "GPU-3", "nvlink"), Link("GPU-1", "GPU-2", "nvlink")]
    machine = gpus("", "", "", "")
    verdict = plan(Snapshot(NOW, [job("a", 2), job("b", 2)], machine, links))
    assert started(verdict) == {"a": ("GPU-0", "GPU-3"), "b": ("GPU-1", "GPU-2")}
    busy = gpus("", "busy", "", "")
    assert started(plan(Snapshot(NOW, [job("a", 2)], busy, links))) == {"a": ("GPU-0", "GPU-3")}


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    count = draw(st.integers(0, 8))
    machine = tuple(
        Gpu(f"GPU-{index}", index, draw(st.sampled_from(["", "", "busy"])), draw(
            st.sampled_from(["", "", "unknown"])
        ), leased=draw(st.booleans()))
        for index in range(count)
    )  # fmt: skip
    uuids = [gpu.uuid for gpu in machine]
    pools = st.none() | st.lists(st.sampled_from(uuids), unique=True).map(tuple) if uuids else (
        st.none()
    )  # fmt: skip
    waiting = [
        Waiting(
            JobKey(f"j{number}"),
            NOW - draw(st.sampled_from([0.0, 1.0, BACKFILL_S / 2, BACKFILL_S, 9e3])),
            draw(st.integers(0, 5)),
            priority=draw(st.integers(-1, 1)),
            pool=(pool := draw(pools)),
            named=pool is not None and draw(st.booleans()),
            after=draw(st.sampled_from(["", "", "", "x"])),
            after_state=draw(st.sampled_from([RunState.COMPLETED, RunState.RUNNING, None])),
        )
        for number in range(draw(st.integers(0, 12)))
    ]
    limit = draw(st.none() | st.integers(0, 8))
    return Snapshot(NOW, waiting, machine, limit=limit, held=draw(st.integers(0, 4)))


@given(snapshots())
@settings(max_examples=150, deadline=None)
def test_no_plan_breaks_a_rule(snapshot: Snapshot) -> None:
    verdict = plan(snapshot)
    wanted = {each.key: each for each in snapshot.waiting}
    keys = [start.key for start in verdict.starts] + [wait.key for wait in verdict.waits]
    assert sorted(map(str, keys)) == sorted(map(str, wanted))
    given_out = [uuid for start in verdict.starts for uuid in start.devices]
    assert len(given_out) == len(set(given_out)), "no GPU twice"
    by_uuid = {gpu.uuid: gpu for gpu in snapshot.gpus}
    for start in verdict.starts:
        asked = wanted[start.key]
        assert len(start.devices) == asked.gpus
        assert not asked.after or asked.after_state == RunState.COMPLETED
        for uuid in start.devices:
            assert not by_uuid[uuid].taken, "no GPU that is taken"
            assert asked.named or not by_uuid[uuid].doubt
            assert asked.pool is None or uuid in asked.pool
    if snapshot.limit is not None and given_out:
        assert snapshot.held + len(given_out) <= snapshot.limit, "never above the limit"
    positions = [wait.position for wait in verdict.waits if wait.position is not None]
    assert positions == list(range(1, len(positions) + 1))
    assert all(wait.reason for wait in verdict.waits)


@given(snapshots())
@settings(max_examples=150, deadline=None)
def test_of_equals_the_first_goes_first(snapshot: Snapshot) -> None:
    going = {start.key for start in plan(snapshot).starts}
    ready = [
        each for each in snapshot.waiting
        if each.gpus and (not each.after or each.after_state == RunState.COMPLETED)
    ]  # fmt: skip
    for first in ready:
        for second in ready:
            alike = all(
                getattr(first, name) == getattr(second, name)
                for name in ("gpus", "priority", "pool", "named")
            )
            if alike and first.queued_at < second.queued_at and second.key in going:
                assert first.key in going


@given(snapshots())
@settings(max_examples=150, deadline=None)
def test_nothing_idles_that_anybody_may_have(snapshot: Snapshot) -> None:
    """Unless a job that has waited long keeps them."""
    if any(NOW - each.queued_at >= BACKFILL_S for each in snapshot.waiting):
        return
    verdict = plan(snapshot)
    used = {uuid for start in verdict.starts for uuid in start.devices}
    room = float("inf") if snapshot.limit is None else snapshot.limit - snapshot.held - len(used)
    waits = {wait.key for wait in verdict.waits if wait.position is not None}
    idle = {gpu.uuid for gpu in snapshot.gpus if not gpu.taken and not gpu.doubt} - used
    for each in snapshot.waiting:
        if each.key in waits and each.gpus <= room:
            assert len(idle & set(each.pool if each.pool is not None else idle)) < each.gpus


@dataclass
class Machine:
    """A simulated machine: jobs run for their time, the plan is asked at every event."""

    count: int
    now: float = 0.0

    def __post_init__(self) -> None:
        self.running: dict[str, tuple[float, tuple[str, ...]]] = {}
        self.waiting: list[Waiting] = []
        self.lasts: dict[str, float] = {}
        self.started: dict[str, float] = {}

    def submit(self, name: str, count: int, lasts: float) -> None:
        self.waiting.append(Waiting(JobKey(name), self.now, count))
        self.lasts[name] = lasts

    @property
    def busy(self) -> set[str]:
        return {uuid for _, uuids in self.running.values() for uuid in uuids}

    def look(self) -> None:
        """What a dispatcher does."""
        machine = [
            Gpu(uuid, index, "leased" if uuid in self.busy else "", leased=uuid in self.busy)
            for index, uuid in enumerate(f"GPU-{number}" for number in range(self.count))
        ]
        for start in plan(Snapshot(self.now, self.waiting, machine)).starts:
            name = str(start.key)
            assert not self.busy & set(start.devices), "two jobs on one GPU"
            self.running[name] = (self.now + self.lasts[name], start.devices)
            self.started[name] = self.now
            self.waiting = [each for each in self.waiting if each.key != start.key]

    def advance(self, until: float) -> None:
        """To the next end of a job, or `until`."""
        self.now = min([until, *(end for end, _ in self.running.values())])
        self.running = {name: held for name, held in self.running.items() if held[0] > self.now}


@given(
    st.lists(st.floats(10.0, 2000.0), min_size=5, max_size=60),
    st.floats(30.0, 300.0),
)
@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_a_large_job_does_not_starve_among_small_ones(lasts: list[float], every_s: float) -> None:
    """Small jobs never stop coming; the large one starts when it has waited long and the longest of
    those that ran then has ended."""
    machine = Machine(4)
    bound = BACKFILL_S + max(lasts)
    for number in range(4):
        machine.submit(f"first{number}", 1, lasts[number])
    machine.look()
    machine.submit("large", 4, 10.0)
    number, next_small = 0, 0.0
    while "large" not in machine.started:
        assert machine.now <= bound + 1.0, "it starved"
        if machine.now >= next_small:
            machine.submit(f"small{number}", 1, lasts[number % len(lasts)])
            number, next_small = number + 1, machine.now + every_s
        machine.look()
        machine.advance(next_small)
    assert machine.started["large"] <= bound


def test_without_the_end_of_backfill_it_would_starve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    monkeypatch.setattr("orchestra.schedule.plan.BACKFILL_S", 1e9)
    with pytest.raises(AssertionError, match="it starved"):
        machine = Machine(4)
        for number in range(4):
            machine.submit(f"first{number}", 1, 100.0 + number)
        machine.look()
        machine.submit("large", 4, 10.0)
        for number in range(1000):
            assert machine.now <= BACKFILL_S + 110.0, "it starved"
            machine.submit(f"small{number}", 1, 100.0)
            machine.look()
            machine.advance(machine.now + 20.0)


@given(st.lists(st.integers(1, 100), min_size=18, max_size=18))
@settings(max_examples=100, deadline=None)
def test_eighteen_jobs_of_two_gpus_neither_overlap_nor_idle(lasts: list[int]) -> None:
    machine = Machine(4)
    for number, seconds in enumerate(lasts):
        machine.submit(f"job{number:02}", 2, float(seconds))
    while machine.waiting or machine.running:
        machine.look()
        assert not machine.waiting or len(machine.busy) == 4, "a GPU idles while a job waits"
        machine.advance(float("inf"))
    order = sorted(machine.started, key=lambda name: (machine.started[name], name))
    assert order == sorted(machine.started), "first come, first served"
