"""What people are told at the end of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.cli.result import print_evaluations, print_result
from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.schedule.watch import View
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure, write_failures
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState
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
    print_result(workspace, View(JobKey("r1", evaluation), row, asked))
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
    print_result(workspace, view)
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"logs r1`; {advice}")


def test_an_evaluation_is_told_with_its_speed(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"split": "test", "checkpoint": "best", "checkpoint_step": 5, "state": "completed"}
    row |= {"metrics": {"loss": 2.0, "wer": 7.25}}
    speed = {"seconds_per_utterance": 0.51234, "real_time_factor": 0.0125}
    print_evaluations([{**row, **speed}], "wer")
    line = capsys.readouterr().out.splitlines()[1]
    assert line == "  wer 7.25  loss 2  real-time factor 0.0125  0.512 s per utterance"
    unknown = dict.fromkeys(speed)  # of an older version, or not there yet
    print_evaluations([{**row, **unknown}], "wer")
    assert capsys.readouterr().out.splitlines()[1] == "  wer 7.25  loss 2"
