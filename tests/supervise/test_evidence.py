"""What is gathered of the files that an attempt left, and which rank's failure came first."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.supervise.evidence import failure_before, gather, next_split
from orchestra.supervise.failure import Cause, classify
from orchestra.supervise.reaper import ExitStatus
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure, write_failures
from orchestra.wire.folders import AttemptFolder, Job
from orchestra.wire.heartbeat import Beat, Phase
from orchestra.wire.job import Attempt
from tests.supervise.test_failure import (
    AGENT_FAILED,
    CLOSED,
    CUDA_FULL,
    NCCL_GONE,
    PORT_TAKEN,
    RECEIVE_TIMED_OUT,
    RESET,
    rank_failure,
)

KILLED, TERMINATED = signal.SIGKILL, signal.SIGTERM


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    folder = AttemptFolder(tmp_path / "attempts" / "0001")
    folder.logs.mkdir(parents=True)
    return folder


def beat(rank: int, step: int = 0, samples: tuple[str, ...] = ()) -> Beat:
    return Beat(rank, 100 + rank, 0, 1, 0, step, Phase.FORWARD, 0.0, samples)


def test_step_and_samples_are_those_of_the_rank_that_failed(attempt: AttemptFolder) -> None:
    write_failures(attempt.failures, [rank_failure(1, exit_code=1, message="ValueError: boom")])
    beats = [beat(0, 8, ("u1",)), beat(1, 7, ("u2", "u3"))]
    failure = classify(gather(attempt, AGENT_FAILED, None, 5, beats))
    assert "rank 1 failed after step 7 with" in failure.sentence
    assert (failure.step, failure.samples) == (7, ("u2", "u3"))
    assert gather(attempt, AGENT_FAILED, None, 5, beats[:1]).step == 5
    beats[1] = replace(beats[1], step=0)  # it had not resumed yet
    assert gather(attempt, AGENT_FAILED, None, 5, beats).step == 5


def test_the_rank_seen_dying_first_is_the_cause(attempt: AttemptFolder) -> None:
    failures = [rank_failure(0, exit_code=1, message="ValueError: x"), rank_failure(1, signal=9)]
    write_failures(attempt.failures, failures)
    attempt.rank_log(1).write_text("step 3\n\n")
    evidence = gather(attempt, AGENT_FAILED, first_dead=101, step=3)
    assert evidence.died == failures[1]
    assert evidence.last_lines == ("step 3",)
    assert gather(attempt, AGENT_FAILED, first_dead=None, step=3).died == failures[0]


# What the agent records of three ranks (torchrun has terminated those that lived), which rank the
# supervisor saw dying first, and which failure the others follow from. The supervisor kills the
# ranks that are left 0.3 s after a death that it saw.
@pytest.mark.parametrize(
    ("failures", "first_dead", "expected"),
    [
        # a rank exits, its peers notice before torchrun tells
        ([{"message": RESET}, {"exit_code": 3}, {"message": CLOSED}], None, 1),
        ([{"message": CLOSED}, {"message": "ValueError: boom"}], None, 1),
        ([{"message": CLOSED}, {"message": "ValueError: boom"}], 0, 1),
        ([{"message": NCCL_GONE}, {"message": CUDA_FULL}], 0, 1),
        # killed
        ([{"message": CLOSED}, {"signal": KILLED}], None, 1),
        ([{"message": CLOSED}, {"signal": KILLED}], 1, 1),
        ([{"message": CLOSED}, {"signal": KILLED}], 0, 1),
        # ... or by the supervisor, after the first death
        ([{"signal": KILLED}, {"message": CLOSED}, {"message": "KeyError: 'x'"}], 1, 2),
        ([{"signal": KILLED}, {"message": "KeyError: 'x'"}], 1, 1),
        ([{"signal": KILLED}, {"message": PORT_TAKEN}], 1, 1),
        ([{"signal": KILLED}, {"message": RECEIVE_TIMED_OUT}], 1, 1),
        # ... or by torchrun, after a death too early to be seen
        ([{"signal": KILLED}, {"exit_code": ExitCode.BAD_DATA, "message": "DataError: x"}], 0, 1),
        ([{"signal": KILLED}, {"message": "KeyError: 'x'"}], 0, 0),
        # waiting for a rank that is gone, or was never there
        ([{"message": RECEIVE_TIMED_OUT}, {"message": "ValueError: boom"}], 0, 1),
        ([{"message": PORT_TAKEN}, {"message": "ImportError: x"}], 0, 1),
        # terminated by torchrun; the one that failed had died before it was known
        ([{"signal": TERMINATED}, {"exit_code": 65}], 0, 1),
        ([{"signal": TERMINATED}], 0, 0),
        ([{"message": CLOSED}, {"message": RESET}], 1, 1),
        ([{"message": CLOSED}, {"message": RESET}], None, 0),
    ],
)
def test_who_failed_first(
    attempt: AttemptFolder, failures: list[dict[str, Any]], first_dead: int | None, expected: int
) -> None:
    found = [rank_failure(n, **{"exit_code": 1, **each}) for n, each in enumerate(failures)]
    found = [replace(each, exit_code=0) if each.signal else each for each in found]
    for order in (found, found[::-1]) if first_dead is not None else (found,):
        write_failures(attempt.failures, order)
        dead = None if first_dead is None else 100 + first_dead
        died = gather(attempt, AGENT_FAILED, dead, 3, [beat(n) for n in range(3)]).died
        assert died == found[expected]


def test_a_peer_of_a_death_that_is_not_on_record_is_no_cause(attempt: AttemptFolder) -> None:
    write_failures(attempt.failures, [rank_failure(0, exit_code=1, message=CLOSED)])
    attempt.rank_log(1).write_text("Fatal Python error\n")
    evidence = gather(attempt, AGENT_FAILED, 101, 3, [beat(0, 4), beat(1, 4)])
    failure = classify(evidence)
    assert (failure.cause, failure.rank) == (Cause.UNKNOWN, 1)
    assert failure.sentence.startswith(
        "rank 1 died first after step 4, how is not on record: Fatal"
    )
    assert gather(attempt, AGENT_FAILED, None, 3, [beat(0, 4)]).died == rank_failure(
        0, exit_code=1, message=CLOSED
    )


def test_missing_and_torn_files_are_no_obstacle(attempt: AttemptFolder) -> None:
    attempt.failures.write_text('{"version": 1, "fail')
    attempt.agent_log.write_bytes(b"x" * 10_000 + b"\n\xff last\n")
    evidence = gather(attempt, AGENT_FAILED, first_dead=None, step=0)
    assert evidence.died is None
    assert evidence.last_lines == ("\ufffd last",)
    attempt.agent_log.unlink()
    assert gather(attempt, AGENT_FAILED, None, 0).last_lines == ()


def test_last_lines_are_bounded_and_kept_as_they_are(attempt: AttemptFolder) -> None:
    attempt.agent_log.write_text("".join(f"\x1b[31m{n}\t\n" for n in range(100)))
    lines = gather(attempt, AGENT_FAILED, None, 0).last_lines
    assert lines == tuple(f"\x1b[31m{n}\t" for n in range(80, 100))
    attempt.agent_log.write_text("y" * 100_000)  # one line
    (line,) = gather(attempt, AGENT_FAILED, None, 0).last_lines
    assert line == "y" * 4096
    attempt.agent_log.write_text("")
    assert gather(attempt, AGENT_FAILED, None, 0).last_lines == ()


def test_of_a_fault_the_beginning_of_its_report_is_kept(attempt: AttemptFolder) -> None:
    """The real one of a deep stack, behind which a list of modules stands."""
    program = """
import ctypes, faulthandler, numpy, sys
faulthandler.enable()
def fall(depth):
    ctypes.string_at(0) if depth == 0 else fall(depth - 1)
print("step 7", "terminate called", sep="\\n", file=sys.stderr)
fall(50)
"""
    with attempt.rank_log(0).open("wb") as log:
        died = subprocess.run([sys.executable, "-c", program], stderr=log, check=False)
    assert died.returncode == -signal.SIGSEGV
    assert "Extension modules: " in attempt.rank_log(0).read_text()
    write_failures(attempt.failures, [rank_failure(0, signal=signal.SIGSEGV)])
    failure = classify(gather(attempt, AGENT_FAILED, None, 7))
    assert failure.sentence.endswith("step 7: Fatal Python error: Segmentation fault")
    said = "\n".join(failure.last_lines)
    assert "terminate called" in said and "in string_at" in said
    assert len(failure.last_lines) == 20 and "Extension modules" not in said


@dataclass(frozen=True)
class Stall:
    rank: int
    pid: int
    step: int
    sentence: str


def test_a_hang_counts_more_than_how_the_killed_ended(attempt: AttemptFolder) -> None:
    write_failures(attempt.failures, [rank_failure(0, signal=9), rank_failure(1, signal=9)])
    attempt.rank_log(1).write_text("waiting\n")
    attempt.rank_stacks(1).write_text("Thread 0x1\n")
    stall = Stall(1, 101, 6, "rank 1 hung in forward after step 6")
    beats = [beat(0, 6), beat(1, 6, ("u7",))]
    killed = ExitStatus(0, signal.SIGKILL)
    failure = classify(gather(attempt, killed, 100, 6, beats, stall=stall))
    assert (failure.cause, failure.rank, failure.pid) == (Cause.HANG, 1, 101)
    assert failure.sentence == f"{stall.sentence}; stacks in {attempt.rank_stacks(1)}"
    assert (failure.last_lines, failure.samples, failure.step) == (("waiting",), ("u7",), 6)
    attempt.rank_stacks(1).unlink()
    assert classify(gather(attempt, killed, 100, 6, (), stall=stall)).sentence == stall.sentence


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


def write_attempt(job: Job, number: int, **values: Any) -> Attempt:
    attempt = Attempt(number, f"r.{number}.x", 1, (), 0.0, **values)
    job.attempt(number).path.mkdir(parents=True)
    attempt.write(job.attempt(number))
    return attempt


def document(**values: Any) -> dict[str, Any]:
    died = RankFailure(0, 7, 1, 0, 0.0, "KeyError: 'x'")
    failure = classify(gather(AttemptFolder(Path("none/attempts/1")), AGENT_FAILED, None, 4))
    return {**replace(failure, rank=died.rank, said=died.message).to_json(), **values}


def test_the_failure_before_survives_the_supervisor(tmp_path: Path) -> None:
    job = Job("train", tmp_path)
    assert failure_before(job, write_attempt(job, 1, failure=document())) is None
    write_attempt(job, 2)  # lost with its supervisor
    again = write_attempt(job, 3, failures_before=1, failure=document(said="another"))
    found = failure_before(job, again)
    assert found is not None
    assert (found.said, found.step, found.rank) == ("KeyError: 'x'", 4, 0)
    assert failure_before(job, replace(again, failures_before=0)) is None  # resumed by its user
    job.attempt(1).attempt.write_text("torn")
    assert failure_before(job, again) is None


def test_a_document_of_another_version_is_no_failure_before(tmp_path: Path) -> None:
    job = Job("train", tmp_path)
    write_attempt(job, 1, failure=document(cause="cosmic rays"))
    assert failure_before(job, write_attempt(job, 2, failures_before=1)) is None


def test_the_split_survives_the_supervisor(tmp_path: Path) -> None:
    job = Job("train", tmp_path)
    assert next_split(job) == 1
    write_attempt(job, 1, failure=document(next_split=2))
    assert next_split(job) == 2
    write_attempt(job, 2, split=2)  # lost with its supervisor
    assert next_split(job) == 2
    write_attempt(job, 3, split=2, failure=document())  # of a version that knew no split
    assert next_split(job) == 2
