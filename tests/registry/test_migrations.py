"""Files of every schema version open; `python -m tests.registry.test_migrations` makes this one's.

A fixture is made once per version, when the version is new, and never changes.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from orchestra.registry import migrations
from orchestra.registry.rows import Demand, JobKey, NewRun
from orchestra.registry.store import SCHEMA_VERSION, open_registry
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState

FIXTURES = Path(__file__).parent / "fixtures"
#: What the run of each file asks of the queue; version 1 knew no queue.
DEMANDS = {
    "registry-v1.db": Demand(priority=0, gpus=None, gpu_ids=(), after=""),
    "registry-v2.db": Demand(priority=3, gpus=2, gpu_ids=("0", "GPU-1"), after="zzz999"),
    "registry-v3.db": Demand(priority=3, gpus=2, gpu_ids=("0", "GPU-1"), after="zzz999"),
    "registry-v4.db": Demand(priority=3, gpus=2, gpu_ids=("0", "GPU-1"), after="zzz999"),
}
#: And its tags and note, where the version knew such.
LABELS = {
    "registry-v3.db": (("paper", "v1"), "the one with the good seed"),
    "registry-v4.db": (("paper", "v1"), "the one with the good seed"),
}
#: And the parent run that it is a member of.
PARENTS = {"registry-v4.db": ("par1", "task.fold=3")}
CONFIG = '{"optim":{"lr":0.0003}}'


def schema(path: Path) -> list[tuple[str, ...]]:
    with sqlite3.connect(path) as connection:
        return connection.execute(
            "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2"
        ).fetchall()


def test_every_version_has_its_fixture_and_number() -> None:
    assert migrations.VERSION == SCHEMA_VERSION == len(migrations._MIGRATIONS._migrations)
    names = sorted(path.name for path in FIXTURES.glob("registry-v*.db"))
    assert names == [f"registry-v{number}.db" for number in range(1, SCHEMA_VERSION + 1)]


@pytest.mark.parametrize(
    "path", sorted(FIXTURES.glob("registry-v*.db")), ids=lambda path: path.name
)
def test_an_old_file_opens_with_all_it_held(path: Path, runs: RunsFolder, tmp_path: Path) -> None:
    runs.path.mkdir()
    shutil.copy(path, runs.registry)
    with open_registry(runs) as registry:
        row = registry.get_run("abc123")
        assert (row.name, row.state, row.step, row.score) == ("first", RunState.COMPLETED, 100, 7.5)
        assert (row.git_dirty, row.devices) == (False, ("GPU-1",))
        assert registry.attempts(JobKey("abc123"))[0].tag == "abc123.1.x"
        assert [row.step for row in registry.checkpoints("abc123")] == [100]
        assert registry.evaluations("abc123")[0].metrics == {"wer": 8.5}
        assert registry.events("abc123")[0].text == "queued"
        assert registry.transition(JobKey("abc123"), {RunState.COMPLETED}, RunState.QUEUED)
        (waiting,) = registry.queued()
        assert waiting.demand == DEMANDS[path.name]
        assert (row.tags, row.remark) == LABELS.get(path.name, ((), ""))
        assert (row.parent, row.member) == PARENTS.get(path.name, ("", ""))
        with sqlite3.connect(runs.registry) as connection:
            kept = connection.execute("SELECT run_id, document FROM configs").fetchall()
        assert kept == ([("abc123", CONFIG)] if path.name in LABELS else [])
    fresh = tmp_path / "fresh.db"
    migrations.create(fresh)
    assert schema(fresh) == schema(runs.registry)


@pytest.mark.parametrize("older", ["registry-v1.db", "registry-v2.db"])
def test_a_process_of_an_older_version_goes_on_in_a_newer_file(
    older: str, runs: RunsFolder
) -> None:
    """It was at work when somebody else brought the file up to date."""
    runs.path.mkdir()
    shutil.copy(FIXTURES / older, runs.registry)
    with sqlite3.connect(runs.registry) as old:
        old.execute("PRAGMA foreign_keys = ON")
        old.execute("SELECT id FROM runs").fetchall()
        with open_registry(runs) as registry:
            old.execute(
                "INSERT INTO runs (id, name, state, task, upstream, created_at, queued_at, "
                "config_sha256) VALUES ('old1', 'old', 'queued', 't', 'u', 1.0, 1.0, 'c')"
            )
            old.execute("UPDATE runs SET state = 'running' WHERE id = 'abc123'")
            old.commit()
            assert [(row.key.run_id, row.demand) for row in registry.queued()] == [
                ("old1", Demand())
            ]
            assert (registry.get_run("old1").tags, registry.get_run("old1").remark) == ((), "")
            demand = Demand(1, 2)
            registry.create_run(
                NewRun("new1", "new", "t", "u", 1.0, 1, "c", demand=demand, config="{}")
            )
            assert len(old.execute("SELECT id, state, step FROM runs").fetchall()) == 3
            old.execute("DELETE FROM runs WHERE id = 'new1'")  # the config goes with it
            old.commit()
            assert old.execute("SELECT * FROM configs").fetchall() == []


def test_a_file_left_between_schema_and_version_is_brought_up_to_date(runs: RunsFolder) -> None:
    runs.path.mkdir()
    shutil.copy(FIXTURES / "registry-v1.db", runs.registry)
    with sqlite3.connect(runs.registry) as connection:
        connection.execute("PRAGMA user_version = 0")
    with open_registry(runs) as registry:
        assert registry.latest_run_id() == "abc123"
    with sqlite3.connect(runs.registry) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_migration_that_fails_changes_nothing(
    runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.path.mkdir()
    shutil.copy(FIXTURES / "registry-v1.db", runs.registry)
    before = schema(runs.registry)

    def broken(database: object) -> None:
        database.execute("CREATE TABLE half (x)")  # type: ignore[attr-defined]
        database.execute("CREATE TABLE runs (x)")  # type: ignore[attr-defined]

    added = migrations.Migrations("orchestra.registry")
    added._migrations = [*migrations._MIGRATIONS._migrations]
    added(name="broken")(broken)
    monkeypatch.setattr(migrations, "_MIGRATIONS", added)
    with pytest.raises(OrchestraError, match="already exists"):
        migrations.migrate(runs.registry)
    assert schema(runs.registry) == before


def test_a_foreign_database_is_refused(runs: RunsFolder) -> None:
    runs.path.mkdir()
    with sqlite3.connect(runs.registry) as connection:
        connection.execute("CREATE TABLE runs (x)")
    with pytest.raises(OrchestraError, match="not a registry"):
        open_registry(runs)


def _make_fixture() -> None:
    """What every reader of this version must find again."""
    import tempfile

    from orchestra.wire.job import Attempt

    name = f"registry-v{SCHEMA_VERSION}.db"
    with tempfile.TemporaryDirectory() as folder:
        runs = RunsFolder(Path(folder))
        with open_registry(runs) as registry:
            registry.create_run(
                NewRun(
                    id="abc123",
                    name="first",
                    task="asr",
                    upstream="fbank",
                    created_at=1000.0,
                    max_steps=100,
                    config_sha256="c" * 64,
                    metric="wer",
                    git_commit="1" * 40,
                    git_branch="main",
                    git_dirty=False,
                    git_tree="2" * 40,
                    demand=DEMANDS[name],
                    tags=LABELS[name][0],
                    remark=LABELS[name][1],
                    parent=PARENTS[name][0],
                    member=PARENTS[name][1],
                    config=CONFIG,
                )
            )
            key = JobKey("abc123")
            registry.transition(key, {RunState.QUEUED}, RunState.RUNNING)
            registry.start_attempt(key, Attempt(1, "abc123.1.x", 2, ("GPU-1",), 1001.0))
            registry.add_checkpoint(
                "abc123", 100, "checkpoints/step-00000100", 7.5, "wer", created_at=1.0
            )
            registry.create_evaluation("abc123", 1, "test-clean", "best", state=RunState.RUNNING)
            registry.finish_evaluation("abc123", 1, {"wer": 8.5}, 100)
            registry.progress("abc123", 100, {"loss": 0.5, "score": 7.5})
            registry.transition(key, {RunState.RUNNING}, RunState.COMPLETED)
        FIXTURES.mkdir(exist_ok=True)
        shutil.copy(runs.registry, FIXTURES / name)


if __name__ == "__main__":
    _make_fixture()
