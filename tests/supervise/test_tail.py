from __future__ import annotations

from pathlib import Path

from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.tail import Tail
from orchestra.wire.folders import RunsFolder
from orchestra.wire.records import Record, RecordWriter


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
