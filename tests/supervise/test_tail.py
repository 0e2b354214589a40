from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.tail import Tail
from orchestra.wire.folders import Job, RunsFolder
from orchestra.wire.records import Record, RecordWriter
from orchestra.wire.states import RunState


def test_notice_does_not_move_the_step(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path)
    job = runs.run("r1").job
    attempt = job.attempt(1)
    attempt.path.mkdir(parents=True)
    writer = RecordWriter(attempt.records)
    with open_registry(runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 12, config_sha256="0"))
        registry.progress("r1", 5, {})
        metrics = MetricStore(job.run.metrics)
        tail = Tail(job, attempt, registry, metrics, Mirror(), first_step=5)
        writer.write(Record("notice", 0, 0.0, {"text": "before the first step"}))
        tail.poll()
        assert (tail.step, registry.get_run("r1").step) == (5, 5)
        writer.write(Record("train", 7, 0.0, {"loss": 1.0}))
        writer.write(Record("notice", 0, 0.0, {"text": "a checkpoint was set aside"}))
        tail.poll()
        assert (tail.step, registry.get_run("r1").step) == (7, 7)
        writer.write(Record("notice", 0, 0.0, {"text": "another"}))
        saved = {"path": "checkpoints/step-00000006", "score": None, "metric": "wer"}
        writer.write(Record("checkpoint", 6, 0.0, saved))  # it ended beside the 7th step
        tail.close()
        assert (tail.step, registry.get_run("r1").step) == (7, 7)
        assert [event.text for event in registry.events("r1") if event.kind == "notice"]
    writer.close()


class Followed:
    """A run whose second attempt is being followed."""

    def __init__(self, runs: RunsFolder, registry: Registry) -> None:
        self.job: Job = runs.run("r1").job
        self.registry = registry
        self.mirror = Mirror()
        self.store = MetricStore(self.job.run.metrics)
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 12, config_sha256="0"))
        self.tail = self._follow(1)
        self.train(10)
        self.train(20)
        self.tail.close()
        self.tail = self._follow(2)
        self.writer.write(Record("start", 10, 0.0, {"step": 10}))
        self.train(20)

    def _follow(self, number: int) -> Tail:
        attempt = self.job.attempt(number)
        attempt.path.mkdir(parents=True)
        self.writer = RecordWriter(attempt.records)
        return Tail(self.job, attempt, self.registry, self.store, self.mirror, first_step=0)

    def train(self, step: int) -> None:
        self.writer.write(Record("train", step, 0.0, {"loss": 1.0 * step}))
        self.tail.poll()

    def points(self) -> list[tuple[int, int, bool]]:
        with closing(MetricStore(self.job.run.metrics)) as store:
            series = store.series("train/loss")
        return [(point.step, point.attempt, point.superseded) for point in series]


WHOLE = [(10, 1, False), (20, 1, True), (20, 2, False)]


def test_where_the_ranks_started_is_theirs_to_tell(followed: Followed) -> None:
    """The newest checkpoint, from which the supervisor expects them to, may be bad."""
    followed.tail.poll()
    assert (followed.tail.first_step, followed.tail.step) == (10, 20)


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    runs = RunsFolder(tmp_path)
    with open_registry(runs) as registry:
        followed = Followed(runs, registry)
        assert followed.points() == WHOLE
        yield followed
        followed.writer.close()


def truncated(store: Path) -> None:
    store.write_bytes(store.read_bytes()[:5000])


def garbled(store: Path) -> None:
    store.write_bytes(b"\xffgarbage\n" * 3000)


def emptied(store: Path) -> None:
    store.write_bytes(b"")


def half_overwritten(store: Path) -> None:
    whole = store.read_bytes()
    store.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))


def deleted(store: Path) -> None:
    store.unlink()


@pytest.mark.parametrize("damage", [truncated, garbled, emptied, half_overwritten, deleted])
def test_a_damaged_metric_store_is_made_again_from_all_attempts(
    followed: Followed, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    followed.store.close()  # SQLite writes its log back into the file
    damage(followed.job.run.metrics)
    followed.train(30)
    assert followed.points() == [*WHOLE, (30, 2, False)]
    assert followed.registry.get_run("r1").step == 30
    if damage is not deleted:
        assert "is made again from the records" in capsys.readouterr().err
        assert followed.job.run.metrics.with_name("metrics.db.damaged").is_file()


def test_a_store_that_stays_unusable_holds_up_nothing_else(followed: Followed) -> None:
    store = followed.job.run.metrics
    followed.store.close()
    for path in store.parent.glob("metrics.db*"):
        path.unlink()
    store.mkdir()  # no file can be made there
    store.with_name("metrics.db.damaged").mkdir()
    (store.with_name("metrics.db.damaged") / "x").touch()
    followed.train(30)
    followed.train(40)
    followed.writer.write(Record("notice", 40, 0.0, {"text": "a word"}))
    followed.tail.poll()
    assert followed.registry.get_run("r1").step == 40
    assert followed.registry.events("r1")[-1].text == "a word"
    assert not followed.mirror.flush()  # still waiting
    store.rmdir()
    assert followed.mirror.flush()
    assert followed.points() == [*WHOLE, (30, 2, False), (40, 2, False)]


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind": "tra\n',
        b"\x00\x00\x00\xff\n",
        b"[1]\n5\nnull\n",
        b'{"kind": ["train"], "step": 30, "time_s": 0, "values": {}}\n',
        b'{"kind": "train", "step": "30", "time_s": 0, "values": {}}\n',
        b'{"kind": "train", "step": 30, "time_s": 0, "values": []}\n',
        b'{"kind": "checkpoint", "step": 30, "time_s": 0, "values": {}}\n',
        b'{"kind": "evaluation", "step": 30, "time_s": 0, "values": {"number": 1}}\n',
        b'{"kind": "invented", "step": 30, "time_s": 0, "values": {}}\n',
    ],
)
def test_lines_that_are_no_records_are_passed_over(followed: Followed, line: bytes) -> None:
    with followed.job.attempt(2).records.open("ab") as file:
        file.write(line)
    followed.train(40)
    assert followed.points() == [*WHOLE, (40, 2, False)]
    assert followed.tail.step == 40


def test_a_truncated_records_file_is_read_on(followed: Followed) -> None:
    followed.job.attempt(2).records.write_bytes(b"")
    for step in range(30, 100, 10):
        followed.train(step)
    assert followed.tail.step == 90
    assert followed.points()[-1] == (90, 2, False)


def test_a_result_completes_only_an_evaluation_without_a_supervisor(followed: Followed) -> None:
    told = {"split": "test", "checkpoint": "best", "checkpoint_step": 10, "metrics": {"wer": 2.5}}
    followed.writer.write(Record("evaluation", 20, 0.0, {"number": 1, **told}))
    followed.tail.poll()
    followed.registry.create_evaluation("r1", 2, "test", "best")
    job = followed.job.run.evaluation(2).job
    job.attempt(1).path.mkdir(parents=True)
    writer = RecordWriter(job.attempt(1).records)
    writer.write(Record("evaluation", 10, 0.0, {"number": 2, **told}))
    Tail(job, job.attempt(1), followed.registry, followed.store, Mirror(), first_step=0).close()
    by_ranks, asked_for = followed.registry.evaluations("r1")
    assert (by_ranks.state, asked_for.state) == (RunState.COMPLETED, RunState.QUEUED)
    assert by_ranks.metrics == asked_for.metrics == {"wer": 2.5}
