from __future__ import annotations

import contextlib
import dataclasses
import math
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra.registry import database as database_module
from orchestra.registry.database import Database
from orchestra.registry.rows import Demand, JobKey, NewRun
from orchestra.registry.store import SCHEMA_VERSION, Registry, open_registry
from orchestra.wire.errors import ConflictError, NotFoundError, OrchestraError, UsageError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.identity import ProcessIdentity, self_identity
from orchestra.wire.job import Attempt
from orchestra.wire.states import LIVE, AttemptState, RunState
from tests.fakes.disk import mounted

MakeRun = Callable[..., NewRun]


def test_a_new_run_is_queued_with_everything_it_was_given(
    registry: Registry, new_run: MakeRun
) -> None:
    registry.create_run(new_run("r1"))
    row = registry.get_run("r1")
    assert (row.state, row.step, row.attempt, row.devices) == (RunState.QUEUED, 0, 0, ())
    assert (row.name, row.task, row.upstream) == ("name-r1", "asr", "fbank")
    assert (row.git_commit, row.git_branch, row.git_dirty, row.git_tree) == (
        "1234",
        "main",
        True,
        "5678",
    )
    assert row.supervisor_pid is None


def test_a_name_is_held_by_one_run(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1", "best"))
    with pytest.raises(ConflictError, match=r"'best' is held by run r1.*--name"):
        registry.create_run(new_run("r2", "best"))
    with pytest.raises(ConflictError, match="r1"):  # an id would be shadowed by that name
        registry.create_run(new_run("r3", "r1"))
    registry.create_run(new_run("r1", "best"))  # the same run again: as a rebuild just did it
    assert [row.id for row in registry.list_runs()] == ["r1"]


def test_only_the_first_of_two_transitions_wins(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1"))
    key = JobKey("r1")
    assert registry.transition(key, {RunState.QUEUED}, RunState.STARTING)
    assert not registry.transition(key, {RunState.QUEUED}, RunState.STARTING)
    assert registry.get_run("r1").state is RunState.STARTING
    assert [event.text for event in registry.events("r1")] == ["queued", "queued -> starting"]


def test_a_live_run_names_its_supervisor_and_an_ended_one_none(
    registry: Registry, new_run: MakeRun
) -> None:
    registry.create_run(new_run("r1"))
    key, me = JobKey("r1"), self_identity()
    registry.transition(key, {RunState.QUEUED}, RunState.STARTING, supervisor=me)
    registry.transition(key, LIVE, RunState.RUNNING)
    row = registry.get_run("r1")
    assert (row.supervisor_pid, row.host) == (me.pid, me.host)
    assert row.started_at is not None
    registry.transition(key, LIVE, RunState.FAILED, reason="rank 1 was killed by signal 9")
    row = registry.get_run("r1")
    assert (row.supervisor_pid, row.host) == (None, me.host)
    assert row.reason == "rank 1 was killed by signal 9"
    assert row.ended_at is not None
    registry.transition(key, {RunState.FAILED}, RunState.QUEUED)
    again = registry.get_run("r1")
    assert (again.ended_at, again.reason, again.started_at) == (None, "", row.started_at)


def test_unknown_runs_are_named(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1"))
    for call in (
        lambda: registry.get_run("r2"),
        lambda: registry.transition(JobKey("r2"), LIVE, RunState.FAILED),
        lambda: registry.progress("r2", 1, {}),
        lambda: registry.add_checkpoint("r2", 1, "x", None, None, created_at=1.0),
        lambda: registry.add_event("r2", "notice", "x"),
        lambda: registry.delete_run("r2"),
    ):
        with pytest.raises(NotFoundError, match="r2"):
            call()
    with pytest.raises(NotFoundError, match="no evaluation 7"):
        registry.finish_evaluation("r1", 7, {}, None)


def test_progress_keeps_what_it_is_not_told(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1"))
    registry.progress("r1", 10, {"loss": 2.5, "eta_s": 60.0, "grad_norm": 1.0})
    registry.progress("r1", 20, {"score": 12.0, "metric": "wer", "eta_s": None})
    row = registry.get_run("r1")
    assert (row.step, row.loss, row.eta_s, row.score, row.metric) == (20, 2.5, None, 12.0, "wer")
    registry.progress("r1", 21, {"loss": math.nan})
    assert registry.get_run("r1").loss is None


def test_attempts_of_a_run_and_of_its_evaluations_are_apart(
    registry: Registry, new_run: MakeRun
) -> None:
    registry.create_run(new_run("r1"))
    registry.create_evaluation("r1", 1, "test-clean", "best")
    agent = ProcessIdentity("m", "b", 7, 8, "box")
    attempt = Attempt(1, "r1.1.x", 2, ("GPU-1",), 5.0, agent=agent, command=("torchrun", "-m"))
    registry.start_attempt(JobKey("r1"), attempt)
    registry.start_attempt(JobKey("r1", 1), Attempt(1, "r1.e1.1.y", 1, (), 6.0))
    ended = dataclasses.replace(
        attempt,
        state=AttemptState.CRASHED,
        reason="rank 0 exited with 1",
        ended_at=9.0,
        last_step=50,
    )
    registry.end_attempt(JobKey("r1"), ended)
    assert registry.attempts(JobKey("r1")) == [ended]
    assert [attempt.tag for attempt in registry.attempts(JobKey("r1", 1))] == ["r1.e1.1.y"]
    row = registry.get_run("r1")
    assert (row.attempt, row.devices) == (1, ("GPU-1",))
    assert "attempt 1 crashed after step 50: rank 0 exited with 1" in [
        event.text for event in registry.events("r1")
    ]


def test_checkpoints_and_evaluations(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1"))
    for step in (20, 10, 30):
        registry.add_checkpoint(
            "r1", step, f"checkpoints/step-{step:08d}", step / 10, "wer", created_at=1.0
        )
    registry.drop_checkpoint("r1", 20)
    assert [(row.step, row.score) for row in registry.checkpoints("r1")] == [(10, 1.0), (30, 3.0)]
    registry.create_evaluation("r1", 1, "test-clean", "best")
    registry.create_evaluation("r1", 2, "test-other", "best", state=RunState.RUNNING)
    assert registry.jobs_in({RunState.QUEUED}) == [JobKey("r1"), JobKey("r1", 1)]
    registry.finish_evaluation("r1", 2, {"wer": 8.5}, 30)
    first, second = registry.evaluations("r1")
    assert (first.state, first.metrics) == (RunState.QUEUED, {})
    assert (second.state, second.metrics, second.checkpoint_step) == (
        RunState.COMPLETED,
        {"wer": 8.5},
        30,
    )


def test_a_deleted_run_leaves_nothing(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1"))
    registry.add_checkpoint("r1", 1, "x", None, None, created_at=1.0)
    registry.create_evaluation("r1", 1, "test", "best")
    registry.start_attempt(JobKey("r1"), Attempt(1, "t", 1, (), 0.0))
    registry.delete_run("r1")
    connection = sqlite3.connect(registry._database.path)
    for table in ("runs", "checkpoints", "evaluations", "attempts", "events"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    registry.create_run(new_run("r1"))  # its name is free again


def test_runs_are_listed_newest_first_by_state(registry: Registry, new_run: MakeRun) -> None:
    for index in range(6):
        registry.create_run(new_run(f"r{index}"))
    for run_id in ("r1", "r4"):
        registry.transition(JobKey(run_id), {RunState.QUEUED}, RunState.RUNNING)
    registry.transition(JobKey("r2"), {RunState.QUEUED}, RunState.FAILED)
    assert [row.id for row in registry.list_runs(limit=3)] == ["r5", "r4", "r3"]
    some = registry.list_runs(states={RunState.RUNNING, RunState.FAILED})
    assert [row.id for row in some] == ["r4", "r2", "r1"]
    assert [row.id for row in registry.list_runs(states=[RunState.RUNNING], limit=1)] == ["r4"]
    assert registry.list_runs(states=[]) == []


def test_the_queue_is_first_in_first_out_also_for_resumed_runs(
    registry: Registry, new_run: MakeRun
) -> None:
    registry.create_run(new_run("old"))
    registry.transition(JobKey("old"), {RunState.QUEUED}, RunState.FAILED)
    registry.create_run(new_run("young"))
    registry.transition(JobKey("old"), {RunState.FAILED}, RunState.QUEUED)
    assert registry.jobs_in({RunState.QUEUED}) == [JobKey("young"), JobKey("old")]


def test_listing_uses_indexes_only(registry: Registry) -> None:
    plans = []
    for sql in (
        "SELECT id FROM runs ORDER BY sequence DESC LIMIT 50",
        "SELECT id FROM runs WHERE state = 'running' ORDER BY sequence DESC LIMIT 50",
        "SELECT id FROM runs WHERE name >= 'a' AND name < 'b'",
        "SELECT number FROM evaluations WHERE state = 'queued'",
        "SELECT id FROM events WHERE run_id = 'x' ORDER BY id",
    ):
        plan = " ".join(str(row[3]) for row in registry._database.read(f"EXPLAIN QUERY PLAN {sql}"))
        plans.append(plan)
        assert "TEMP B-TREE" not in plan, plan
    # The first one walks the table from its end; all others search.
    assert all("SEARCH" in plan for plan in plans[1:]), plans


def test_references(registry: Registry, new_run: MakeRun) -> None:
    with pytest.raises(NotFoundError, match="orchestra run"):
        registry.resolve("@last")
    registry.create_run(new_run("abc123", "quick"))
    registry.create_run(new_run("abd456", "abc"))
    registry.create_run(new_run("x_%", "slow"))
    assert registry.resolve("abc123") == "abc123"
    assert registry.resolve("abc") == "abd456"  # an exact name before a prefix
    assert registry.resolve("abc1") == "abc123"
    assert registry.resolve("qui") == "abc123"
    assert registry.resolve("@last") == registry.latest_run_id() == "x_%"
    assert registry.resolve("x_") == "x_%"
    with pytest.raises(NotFoundError, match=r"'ab' means several runs: abc123 \(quick\), abd456"):
        registry.resolve("ab")
    for nothing in ("zzz", "", "_%", "a%"):
        with pytest.raises(NotFoundError, match="newest are x_%"):
            registry.resolve(nothing)


def test_a_failed_write_leaves_no_half(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1"))
    with pytest.raises(NotFoundError), registry.bulk():
        registry.progress("r1", 50, {})
        registry.progress("gone", 50, {})
    assert registry.get_run("r1").step == 0


def test_the_file_is_private(registry: Registry, runs: RunsFolder, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1"))
    for path in (runs.registry, runs.path / "registry.db-wal", runs.path / "registry.db-shm"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_newer_schema_is_refused(registry: Registry, runs: RunsFolder) -> None:
    registry.close()
    with sqlite3.connect(runs.registry) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(UsageError, match=r"newer orchestra.*upgrade"):
        open_registry(runs)


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, None])
def test_a_damaged_file_is_named_with_its_remedy(
    registry: Registry, runs: RunsFolder, new_run: MakeRun, damage: bytes | None
) -> None:
    registry.create_run(new_run("r1"))
    registry.close()
    if damage is None:  # the header is fine, the pages behind it are not
        content = bytearray(runs.registry.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        damage = bytes(content)
    runs.registry.write_bytes(damage)
    with pytest.raises(OrchestraError, match=r"is damaged .*mv .*rebuilt from the run folders"):
        open_registry(runs).list_runs()
    runs.registry.rename(runs.path / "registry.db.damaged")
    assert open_registry(runs).list_runs() == []


def test_an_open_registry_follows_the_file_at_its_path(
    registry: Registry, runs: RunsFolder, new_run: MakeRun
) -> None:
    registry.create_run(new_run("r1"))
    runs.registry.rename(runs.path / "registry.db.damaged")
    with open_registry(runs) as other:
        other.create_run(new_run("r2"))
        assert [row.id for row in registry.list_runs()] == ["r2"]
        registry.create_run(new_run("r3"))
    assert [row.id for row in registry.list_runs()] == ["r3", "r2"]


@pytest.mark.parametrize("schema", [0, SCHEMA_VERSION, SCHEMA_VERSION + 1])
def test_a_foreign_file_in_its_place_is_a_sentence(
    registry: Registry, runs: RunsFolder, schema: int
) -> None:
    foreign = runs.path / "foreign"
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute(f"PRAGMA user_version = {schema}")
        connection.execute("CREATE TABLE songs (name TEXT)")
    foreign.rename(runs.registry)
    told = "orchestra did not write it" if schema == SCHEMA_VERSION else f"with schema {schema}"
    for _ in range(2):
        with pytest.raises(OrchestraError, match=told):
            registry.list_runs()


def test_an_unusable_file_is_a_sentence(registry: Registry, runs: RunsFolder) -> None:
    runs.registry.rename(runs.path / "away")
    with pytest.raises(OrchestraError, match="permissions"):
        registry.list_runs()
    (runs.path / "away").rename(runs.registry)
    assert registry.list_runs() == [], "it was away for a moment only"
    with open_registry(runs) as copy:  # and once more, with another file in its place
        runs.registry.rename(runs.path / "away")
        with pytest.raises(OrchestraError):
            registry.list_runs()
        runs.registry.write_bytes((runs.path / "away").read_bytes())
        assert registry.list_runs() == copy.list_runs() == []
    file = RunsFolder(runs.path / "away")
    with pytest.raises(OrchestraError, match="cannot make"):
        open_registry(file)


def test_listing_loads_nothing_heavy(registry: Registry, runs: RunsFolder) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from orchestra.workspace import find_workspace\n"
        "from orchestra.registry.store import open_registry\n"
        "from orchestra.wire.folders import RunsFolder\n"
        f"open_registry(RunsFolder(Path({str(runs.path)!r}))).list_runs(limit=50)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "sqlite3" in loaded
    assert not loaded & {"pydantic", "sqlite_utils", "git", "numpy", "typer", "textual"}


def test_a_database_never_makes_a_file(runs: RunsFolder) -> None:
    runs.path.mkdir()
    with pytest.raises(OrchestraError):
        Database(runs.registry)
    assert list(runs.path.iterdir()) == []


def test_a_full_disk_is_a_sentence_and_costs_nothing(
    registry: Registry, runs: RunsFolder, new_run: MakeRun
) -> None:
    registry.create_run(new_run("r1"))
    connection = registry._database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with (
        pytest.raises(OrchestraError, match=r"registry\.db: the disk of .* is full"),
        registry.bulk(),
    ):
        for number in range(1000):
            registry.add_event("r1", "notice", f"event {number} " * 100)
    assert [event.text for event in registry.events("r1")] == ["queued"]
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


READS = """
import sys
from pathlib import Path
from orchestra.registry.store import open_registry
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunsFolder
with open_registry(RunsFolder(Path(sys.argv[1]))) as registry:
    print([row.id for row in registry.list_runs()])
    try:
        registry.add_event("r1", "notice", "x")
    except OrchestraError as error:
        print(error)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", mebibytes=2) as disk:
        yield disk


def test_runs_can_be_read_on_a_full_disk(small_disk: Path, new_run: MakeRun) -> None:
    runs = RunsFolder(small_disk / "runs")
    with open_registry(runs) as registry:
        registry.create_run(new_run("r1"))
        left = runs.path / "registry.db-wal"
        rows_only_there = left.read_bytes()
    left.write_bytes(rows_only_there)  # as a killed process leaves it
    with contextlib.suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as fill:
        while True:
            fill.write(bytes(4096))
    done = subprocess.run([sys.executable, "-c", READS, runs.path], capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "['r1']", done.stderr
    assert f"the disk of {runs.path} is full; make room" in done.stdout


def test_a_job_that_lost_its_gpus_keeps_its_place_and_a_resumed_one_goes_last(
    registry: Registry, new_run: MakeRun
) -> None:
    for run_id in ("r1", "r2"):
        registry.create_run(new_run(run_id))
    first = JobKey("r1")

    def line() -> list[str]:
        return [row.key.run_id for row in registry.queued()]

    registry.transition(first, {RunState.QUEUED}, RunState.STARTING)
    registry.transition(first, {RunState.STARTING}, RunState.QUEUED, reason="its GPU was lost")
    assert line() == ["r1", "r2"]
    registry.transition(first, {RunState.QUEUED}, RunState.STOPPED)
    assert line() == ["r2"]
    registry.transition(first, {RunState.STOPPED}, RunState.QUEUED)
    assert line() == ["r2", "r1"]


def test_the_demand_of_runs_and_evaluations(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(dataclasses.replace(new_run("r1"), demand=Demand(2, 4, ("0",), "")))
    registry.create_evaluation("r1", 1, "test", "best", demand=Demand(gpus=0, after="r1"))
    run, evaluation = registry.queued()
    assert (run.name, run.demand, run.after_state) == ("name-r1", Demand(2, 4, ("0",)), None)
    assert (evaluation.name, evaluation.after_state) == ("name-r1", RunState.QUEUED)
    assert evaluation.after_ended_at is None
    registry.change_demand(run.key, Demand(0, 1))
    assert registry.queued()[0].demand == Demand(0, 1)
    found = registry.run_named("name-r1")
    assert found is not None and found.id == "r1"
    assert registry.run_named("r1") is None
    registry.transition(run.key, {RunState.QUEUED}, RunState.COMPLETED)
    (evaluation,) = registry.queued()
    assert evaluation.after_state == RunState.COMPLETED
    assert evaluation.after_ended_at == registry.get_run("r1").ended_at is not None


def test_labels_of_a_run(registry: Registry, new_run: MakeRun) -> None:
    registry.create_run(new_run("r1", "first"))
    registry.create_run(new_run("r2", "second"))
    registry.relabel("r1", name="best", tags=["a", "paper"], remark="look")
    row = registry.get_run("r1")
    assert (row.name, row.tags, row.remark) == ("best", ("a", "paper"), "look")
    for held in ("second", "r2"):
        with pytest.raises(ConflictError, match="held by run r2"):
            registry.relabel("r1", name=held, tags=[], remark="")
    assert registry.get_run("r1") == row
    registry.relabel("r1", name="r1", tags=[], remark="")  # its own id is free to it
    with pytest.raises(NotFoundError):
        registry.relabel("r9", name="x", tags=[], remark="")


def test_the_config_beside_a_row_is_the_newest(registry: Registry, new_run: MakeRun) -> None:
    def configs() -> list[tuple[str, ...]]:
        with sqlite3.connect(registry._database.path) as connection:
            return connection.execute("SELECT * FROM configs").fetchall()

    registry.create_run(dataclasses.replace(new_run("r1"), config='{"seed":1}'))
    assert configs() == [("r1", "c" * 64, '{"seed":1}')]
    registry.change_config("r1", "d" * 64, '{"seed":2}')
    assert configs() == [("r1", "d" * 64, '{"seed":2}')]
    registry.delete_run("r1")
    assert configs() == []


def test_a_defined_function_outlives_the_file(
    registry: Registry, runs: RunsFolder, new_run: MakeRun
) -> None:
    registry.create_run(new_run("r1"))
    registry.define("twice", lambda text: text * 2)
    assert [row.id for row in registry.select_runs("twice(id) = ?", ["r1r1"])] == ["r1"]
    runs.registry.rename(runs.path / "away")
    with open_registry(runs) as other:
        other.create_run(new_run("r2"))
    assert registry.count_runs("twice(id) = ?", ["r2r2"]) == 1, "in the file now at its path"


def test_a_defined_function_is_known_in_a_copy_too(registry: Registry, new_run: MakeRun) -> None:
    """As a read-only or full disk needs one."""
    registry.create_run(new_run("r1"))
    registry.define("twice", lambda text: text * 2)
    path, functions = registry._database.path, registry._database._functions
    sql = "SELECT twice(id) FROM runs"
    assert database_module._read_copy(path, sql, (), functions) == [("r1r1",)]
