from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.supervise.failure import Evidence, classify, gather
from orchestra.supervise.reaper import ExitStatus
from orchestra.train.lines import json_line, text
from orchestra.train.recorder import LogFormat
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure, write_failures
from orchestra.wire.folders import AttemptFolder
from orchestra.wire.heartbeat import Beat, Phase
from orchestra.wire.records import Record

AGENT_FAILED = ExitStatus(code=1, signal=0)


def rank_failure(
    rank: int, *, exit_code: int = 0, signal: int = 0, message: str = ""
) -> RankFailure:
    return RankFailure(rank, 100 + rank, exit_code, signal, 0.0, message)


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    folder = AttemptFolder(tmp_path / "0001")
    folder.logs.mkdir(parents=True)
    return folder


def test_signal_with_the_last_log_line() -> None:
    cause = rank_failure(2, signal=signal.SIGSEGV)
    failure = classify(Evidence(AGENT_FAILED, cause, "loss 1.5", step=7))
    assert failure.sentence == "rank 2 was killed by SIGSEGV after step 7: loss 1.5"
    assert failure.retry


def test_exception_is_quoted_and_retried() -> None:
    cause = rank_failure(0, exit_code=1, message="RuntimeError: boom")
    failure = classify(Evidence(AGENT_FAILED, cause, "  File x", step=0))
    assert failure.sentence == "rank 0 failed with exit code 1: RuntimeError: boom"
    assert failure.said == "RuntimeError: boom"
    assert failure.retry


@pytest.mark.parametrize(
    "code", [ExitCode.BAD_CONFIG, ExitCode.BAD_DATA, ExitCode.DISK_FULL, ExitCode.NOT_FINITE]
)
def test_codes_that_no_restart_can_cure(code: ExitCode) -> None:
    failure = classify(Evidence(AGENT_FAILED, rank_failure(0, exit_code=code), "why", step=0))
    assert not failure.retry
    assert failure.remedy


def test_a_remedy_is_added_only_where_the_rank_gave_none() -> None:
    told = rank_failure(0, exit_code=int(ExitCode.BAD_DATA), message="DataError: raise the cap")
    failure = classify(Evidence(AGENT_FAILED, told, "", step=0))
    assert failure.sentence.endswith("DataError: raise the cap")
    assert (failure.retry, failure.remedy) == (False, "")
    full = rank_failure(0, exit_code=int(ExitCode.DISK_FULL), message="OSError: [Errno 28]")
    assert "free some space" in classify(Evidence(AGENT_FAILED, full, "", step=0)).remedy


def test_a_long_message_is_cut_between_words() -> None:
    message = "UsageError: " + " ".join(["head.utterance.weight"] * 20)
    cause = rank_failure(0, exit_code=int(ExitCode.BAD_CONFIG), message=message)
    sentence = classify(Evidence(AGENT_FAILED, cause, "", step=0)).sentence
    assert sentence.endswith(" head.utterance.weight ...")
    assert len(sentence) < 300 + len("rank 0 failed with exit code 78: ")
    cause = rank_failure(0, exit_code=1, message="x" * 400)
    assert len(classify(Evidence(AGENT_FAILED, cause, "", step=0)).sentence) < 340


STAMP = "2026-11-21 09:00:00,123"
PARTS = [{"part": "head", "parameters": 3000, "trainable": 3000, "share": 1.0}]


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "record",
    [
        Record("train", 40, 0.0, {"loss": 1.5}),
        Record("start", 0, 0.0, {"max_steps": 3, "parts": PARTS}),
    ],
)
def test_what_tells_progress_is_no_reason(
    attempt: AttemptFolder, log_format: LogFormat, record: Record
) -> None:
    write_failures(attempt.failures, [rank_failure(0, signal=signal.SIGKILL)])
    lines = json_line(record) if log_format == "json" else f"{STAMP} INFO {text(record)}"
    attempt.rank_log(0).write_text(f"{lines}\n")
    sentence = classify(gather(attempt, AGENT_FAILED, None, 40)).sentence
    assert sentence == "rank 0 was killed by SIGKILL after step 40"


def test_the_step_is_that_of_the_rank_that_failed(attempt: AttemptFolder) -> None:
    write_failures(attempt.failures, [rank_failure(1, exit_code=1, message="ValueError: boom")])
    beats = [Beat(n, 100 + n, 0, 1, 0, 8 - n, Phase.FORWARD, 0.0) for n in (0, 1)]
    failure = classify(gather(attempt, AGENT_FAILED, None, 5, beats))
    assert "rank 1 failed after step 7 with" in failure.sentence and failure.step == 7
    assert gather(attempt, AGENT_FAILED, None, 5, beats[:1]).step == 5
    beats[1] = replace(beats[1], step=0)  # it had not resumed yet
    assert gather(attempt, AGENT_FAILED, None, 5, beats).step == 5


@pytest.mark.parametrize("message", ["ModuleNotFoundError: No module named 'x'", "SyntaxError: y"])
def test_broken_code_is_not_retried_wherever_it_fails(message: str) -> None:
    in_rank = classify(Evidence(AGENT_FAILED, rank_failure(0, exit_code=1), message, step=0))
    in_agent = classify(Evidence(AGENT_FAILED, None, message, step=0))
    assert (in_rank.retry, in_agent.retry) == (False, False)


def test_agent_killed() -> None:
    failure = classify(Evidence(ExitStatus(0, signal.SIGKILL), None, "", step=9))
    assert failure.sentence == "torchrun was killed by SIGKILL"


def test_exit_zero_without_a_result() -> None:
    failure = classify(Evidence(ExitStatus(0, 0), None, "", step=9))
    assert failure.sentence == "all ranks ended, but rank 0 left no result"


def test_the_rank_seen_dying_first_is_the_cause(attempt: AttemptFolder) -> None:
    failures = [rank_failure(0, exit_code=1, message="peer gone"), rank_failure(1, signal=9)]
    write_failures(attempt.failures, failures)
    attempt.rank_log(1).write_text("step 3\n\n")
    evidence = gather(attempt, AGENT_FAILED, first_dead=101, step=3)
    assert evidence.cause == failures[1]
    assert evidence.last_line == "step 3"
    assert gather(attempt, AGENT_FAILED, first_dead=None, step=3).cause == failures[0]


def test_a_rank_that_torchrun_terminated_is_not_the_cause(attempt: AttemptFolder) -> None:
    """Rank 1 failed before the supervisor knew it, so rank 0 was the first it saw dying."""
    failures = [rank_failure(1, exit_code=65), rank_failure(0, signal=signal.SIGTERM)]
    write_failures(attempt.failures, failures)
    assert gather(attempt, AGENT_FAILED, first_dead=100, step=3).cause == failures[0]
    write_failures(attempt.failures, failures[1:])
    assert gather(attempt, AGENT_FAILED, first_dead=100, step=3).cause == failures[1]


def test_missing_and_torn_files_are_no_obstacle(attempt: AttemptFolder) -> None:
    attempt.failures.write_text('{"version": 1, "fail')
    attempt.agent_log.write_bytes(b"x" * 10_000 + b"\n\xff last\n")
    evidence = gather(attempt, AGENT_FAILED, first_dead=None, step=0)
    assert evidence.cause is None
    assert evidence.last_line == "\ufffd last"
    attempt.agent_log.unlink()
    assert gather(attempt, AGENT_FAILED, None, 0).last_line == ""


def write_capsule(run: Path, step: int, **document: Any) -> None:
    folder = run / "capsules" / f"step-{step:08d}" / "attempt-0001-rank0"
    folder.mkdir(parents=True)
    told = {"version": 1, "exception": None, "non_finite": [], **document}
    (folder / "capsule.json").write_text(json.dumps(told))


def test_the_capsule_that_tells_the_same_is_named(tmp_path: Path) -> None:
    attempt = AttemptFolder(tmp_path / "attempts" / "0002")
    attempt.logs.mkdir(parents=True)
    boom = {"type": "ValueError", "message": "boom"}
    write_capsule(tmp_path, 3, reason="not finite", non_finite=["loss"])
    write_capsule(tmp_path, 7, reason="exception", exception=boom)
    write_capsule(tmp_path, 8, reason="exception", exception={"type": "ValueError"})  # damaged

    def sentence(**failure: Any) -> str:
        write_failures(attempt.failures, [rank_failure(0, **failure)])
        return classify(gather(attempt, AGENT_FAILED, first_dead=None, step=9)).sentence

    raised = sentence(exit_code=1, message="ValueError: boom")
    shown = f"`orchestra replay {tmp_path.name}` shows more"
    assert raised.endswith(f"; {shown} (capsule step-00000007/attempt-0001-rank0)")
    diverged = sentence(exit_code=int(ExitCode.NOT_FINITE), message="NotFiniteError: 20 steps")
    assert diverged.endswith("(capsule step-00000003/attempt-0001-rank0)")
    assert "capsule" not in sentence(exit_code=1, message="ValueError: another")
    assert "capsule" not in sentence(signal=9)
