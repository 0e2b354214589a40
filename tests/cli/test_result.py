"""What people are told at the end of a job."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.cli.progress import describe as progress_line
from orchestra.cli.result import print_evaluations, print_result
from orchestra.cli.verbs import show
from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.schedule import describe as describing
from orchestra.schedule.describe import describe
from orchestra.schedule.watch import View, look
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure, write_failures
from orchestra.wire.folders import RunsFolder
from orchestra.wire.job import Attempt
from orchestra.wire.records import Record
from orchestra.wire.states import AttemptState, RunState
from orchestra.workspace import Workspace


@pytest.mark.parametrize(
    ("evaluation", "advice"),
    [
        (None, "look at `orchestra logs r1`; `orchestra resume r1`"),
        (1, "look at `orchestra logs r1 --eval 1`"),
    ],
)
def test_only_a_failed_run_is_to_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], evaluation: int | None, advice: str
) -> None:
    workspace = Workspace(tmp_path, RunsFolder(tmp_path))
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 12, config_sha256="0"))
        registry.create_evaluation("r1", 1, "test", "best")
        for key in (JobKey("r1"), JobKey("r1", 1)):
            registry.transition(key, {RunState.QUEUED}, RunState.FAILED, reason="boom")
        row = registry.get_run("r1")
        asked = registry.evaluations("r1")[0] if evaluation else None
    print_result(workspace, View(JobKey("r1", evaluation), row, asked), since_s=0.0)
    assert capsys.readouterr().err.splitlines()[-1].endswith(advice)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (ExitCode.BAD_CONFIG, "`orchestra resume r1 --set KEY=VALUE`, or submit a corrected run"),
        (ExitCode.BAD_DATA, "`orchestra resume r1`"),
    ],
)
def test_what_the_config_is_to_blame_for_is_not_resumed_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: ExitCode, advice: str
) -> None:
    workspace = Workspace(tmp_path, RunsFolder(tmp_path))
    job = workspace.runs.run("r1").job
    for number, died in ((1, ExitCode.BAD_CONFIG), (2, code)):
        job.attempt(number).path.mkdir(parents=True)
        failure = RankFailure(0, 7, int(died), 0, 0.0, "")
        write_failures(job.attempt(number).failures, [failure])
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 12, config_sha256="0"))
        registry.transition(JobKey("r1"), {RunState.QUEUED}, RunState.FAILED, reason="boom")
        view = View(JobKey("r1"), registry.get_run("r1"), None)
    print_result(workspace, view, since_s=0.0)
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"logs r1`; {advice}")


ROW: dict[str, Any] = {
    "number": 3,
    "split": "test",
    "checkpoint": "best",
    "checkpoint_step": 5,
    "state": "completed",
    "metrics": {"loss": 2.0, "wer": 7.25},
    "declared": ["loss", "wer"],
    "predictions": "runs/r1/predictions.jsonl",
    "seconds_per_utterance": 0.51234,
    "real_time_factor": 0.0125,
}


def printed(capsys: pytest.CaptureFixture[str], **values: Any) -> list[str]:
    print_evaluations([{**ROW, **values}], "wer")
    return capsys.readouterr().out.splitlines()


def test_an_evaluation_is_told_with_its_number_and_speed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heading, line = printed(capsys)
    assert heading == "eval 3  test  best (step 5)  completed"
    assert line == "  wer 7.25  loss 2  real-time factor 0.0125  0.512 s per utterance"
    unknown = {"real_time_factor": None, "seconds_per_utterance": None}
    # Of an older version, or not there yet.
    assert printed(capsys, declared=None, **unknown)[1] == "  wer 7.25  loss 2"
    assert printed(capsys, metrics={}, declared=None, **unknown)[1:] == []


def test_only_what_the_task_declares_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    many = {"wer": 7.25, "characters_errors": 3690.0, "cer": 2.5}
    line = printed(capsys, metrics=many, declared=["cer", "wer"])[1]
    assert line.startswith("  wer 7.25  cer 2.5  real-time")


def test_without_labels_the_predictions_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = printed(capsys, metrics={})[1]
    assert line == "  no labels: predictions in runs/r1/predictions.jsonl"


def test_after_resume_old_evaluations_are_not_told_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path, RunsFolder(tmp_path))
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 12, config_sha256="0"))
        registry.create_evaluation("r1", 1, "old", "best")
        registry.finish_evaluation("r1", 1, {"wer": 1.0}, 5)
        since_s = time.time()
        for number, split in ((2, "new"), (3, "queued")):
            registry.create_evaluation("r1", number, split, "best")
        registry.finish_evaluation("r1", 2, {"wer": 1.0}, 10)
        registry.transition(JobKey("r1"), set(RunState), RunState.COMPLETED)
        view = View(JobKey("r1"), registry.get_run("r1"), None)
    print_result(workspace, view, since_s)
    told = capsys.readouterr().out
    assert "eval 2  new" in told
    assert "eval 1" not in told and "eval 3" not in told


def test_words_are_counted_where_there_are_transcripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path, RunsFolder(tmp_path))
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun("r1", "r1", "ks", "none", 0.0, 12, config_sha256="0"))
        registry.transition(JobKey("r1"), set(RunState), RunState.COMPLETED)
        view = look(registry, JobKey("r1"))
        known = describe(workspace, registry, "r1")
    counts = {"spoken": {"count": 2, "seconds": 90.0, "words": 7}}
    counts["labelled"] = {**counts["spoken"], "words": 0}
    monkeypatch.setattr(describing, "describe", lambda *_: {**known, "data": counts})
    print_result(workspace, view, since_s=0.0)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "spoken: 2 utterances, 1.5 min, 7 distinct words"
    assert told[1] == "labelled: 2 utterances, 1.5 min"


def test_a_run_at_work_and_an_ended_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path, RunsFolder(tmp_path))
    numbers = {"loss": 1.5, "eta_s": 108.0, "max_steps": 3000}
    store = MetricStore(workspace.runs.run("r1").metrics)
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 12, config_sha256="0"))
        registry.transition(JobKey("r1"), set(RunState), RunState.RUNNING)
        registry.start_attempt(JobKey("r1"), Attempt(1, "tag", 1, (), time.time() - 65))
        registry.progress("r1", 60, numbers)
        workspace.runs.run("r1").path.mkdir()
        store.append(1, [Record("train", 60, 0.0, {"skipped": 2.0})])
        store.close()
        at_work = show_page(describe(workspace, registry, "r1"), capsys)
        running = look(registry, JobKey("r1"))
        registry.transition(JobKey("r1"), set(RunState), RunState.COMPLETED, reason="enough")
        ended = show_page(describe(workspace, registry, "r1"), capsys)
        view = look(registry, JobKey("r1"))
    assert "step 60 of 3000, loss 1.5, ETA 1m48s, skipped 2 steps (not finite)" in at_work
    assert "ETA 1m48s" in progress_line(running)
    assert re.search(r"running +0-60 +1m0\ds", at_work)
    assert "completed: enough" in ended and "ETA" not in ended + progress_line(view)
    print_result(workspace, view, since_s=0.0)
    assert "skipped 2 steps (not finite): `orchestra replay r1`" in capsys.readouterr().out
    workspace.runs.run("r1").metrics.write_bytes(b"garbage" * 1000)
    with open_registry(workspace.runs) as registry:
        damaged = show_page(describe(workspace, registry, "r1"), capsys)
    assert re.search(r"\n  speed +-\n", damaged) and re.search(r"\n  metrics +.*damaged", damaged)


def show_page(document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    show._page(document)
    return capsys.readouterr().out


def failed_attempt(number: int, sentence: str, action: str, **values: Any) -> Attempt:
    failure = {
        "cause": "signal",
        "sentence": sentence,
        "action": action,
        "rank": 1,
        "last_lines": [],
        **values,
    }
    return Attempt(
        number,
        f"tag{number}",
        2,
        (),
        0.0,
        AttemptState.CRASHED,
        f"{sentence}; {action}",
        ended_at=5.0,
        split=number,
        failure=failure,
    )


def page_of(
    attempts: list[Attempt], tmp_path: Path, capsys: pytest.CaptureFixture[str], state: RunState
) -> tuple[str, dict[str, Any]]:
    workspace = Workspace(tmp_path, RunsFolder(tmp_path))
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 12, config_sha256="0"))
        for attempt in attempts:
            registry.start_attempt(JobKey("r1"), attempt)
            registry.end_attempt(JobKey("r1"), attempt)
            registry.transition(JobKey("r1"), set(RunState), state, reason=attempt.reason)
        document = describe(workspace, registry, "r1")
    return show_page(document, capsys), document


KILLED = "rank 1 was killed by SIGKILL after step 7 (the kernel does so when memory"
DIED = f"{KILLED} runs out)"  # too long for a line
LINES = [f"step {n}" for n in range(19)] + ["a \x1b[2J bell\x07 " + "y" * 200]


def test_why_attempts_failed_and_what_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts = [
        failed_attempt(1, DIED, "restart 1 of 2 from step 5 at once"),
        failed_attempt(2, DIED, "gave up after two attempts", last_lines=LINES),
    ]
    page, document = page_of(attempts, tmp_path, capsys, RunState.FAILED)
    lines = page.splitlines()
    assert lines[:5] == [
        "r1  r1  failed",
        f"  attempt 1, signal: {KILLED}",
        "    runs out)",
        "    -> restart 1 of 2 from step 5 at once",
        f"  attempt 2, signal: {KILLED}",
    ]
    assert page.count("gave up after two attempts") == 1  # neither in the tables nor in the events
    assert "attempt 2 crashed after step 0" in page
    at = lines.index("Last words of rank 1")
    assert lines[at + 1] == "  step 0"
    assert lines[at + 20].startswith(r"  a \x1b[2J bell\x07 yyy") and lines[at + 20].endswith(
        " ..."
    )
    folders = [line for line in lines if str(tmp_path) in line]
    assert all(len(line) <= 100 for line in lines if line not in folders)
    assert "not exact: micro-batches were cut in 2 after running out of memory" in page
    assert not document["exact"]
    assert document["attempts"][1]["failure"]["last_lines"] == LINES


def test_what_is_left_of_a_reason_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt = failed_attempt(1, DIED, "restart 1 of 2 from step 5 at once")
    stuck = replace(attempt, reason=f"{attempt.reason}; could not be killed: python (pid 7)")
    page, document = page_of([stuck], tmp_path, capsys, RunState.RESTARTING)
    assert page.splitlines()[0] == "r1  r1  restarting: could not be killed: python (pid 7)"
    assert "Last words" not in page and "not exact" not in page
    assert document["exact"]


def test_of_many_failures_the_last_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts = [failed_attempt(n, f"death {n}", "restart") for n in range(1, 9)]
    page, _ = page_of(attempts, tmp_path, capsys, RunState.FAILED)
    assert page.splitlines()[1] == "  3 earlier attempts failed (`--json` tells)"
    assert "death 4" in page and "death 3;" not in page.split("Attempts")[0]


def test_a_reason_of_another_kind_is_told_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = Attempt(1, "tag", 2, (), 0.0, AttemptState.LOST, "its supervisor died", ended_at=5.0)
    page, document = page_of([lost], tmp_path, capsys, RunState.FAILED)
    assert page.splitlines()[0] == "r1  r1  failed: its supervisor died"
    assert document["attempts"][0]["failure"] is None
