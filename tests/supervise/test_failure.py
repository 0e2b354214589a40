"""Each class by the evidence of real programs; texts of torch 2.13 are copied as they were."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pytest

from orchestra.supervise.failure import Cause, Evidence, Failure, classify
from orchestra.supervise.reaper import ExitStatus
from orchestra.train.lines import json_line, text
from orchestra.train.recorder import LogFormat
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure
from orchestra.wire.records import Record

AGENT_FAILED = ExitStatus(code=1, signal=0)


def rank_failure(
    rank: int, *, exit_code: int = 0, signal: int = 0, message: str = ""
) -> RankFailure:
    return RankFailure(rank, 100 + rank, exit_code, signal, 0.0, message)


def of_rank(last_line: str = "", step: int = 0, **failure: object) -> Failure:
    died = rank_failure(0, **failure)  # type: ignore[arg-type]
    return classify(Evidence(AGENT_FAILED, died, (last_line,), step=step))


GLOO = "RuntimeError: [/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/"
ASK_PEER = "Check the logs of the remote worker before reporting an error. GLHF! 🏖️"
CLOSED = (
    f"{GLOO}pair.cc:553] Connection closed by peer [127.0.0.1]:50326. This is typically caused by "
    f"a remote worker crashing. {ASK_PEER}"
)
RESET = (
    f"{GLOO}pair.cc:537] Read error [127.0.0.1]:13029: Connection reset by peer. This is typically "
    f"caused by a remote worker hanging or bugs in the application. {ASK_PEER}"
)
NCCL_GONE = (
    "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, remote process exited or there "
    "was a network error, NCCL version 2.18.1\nncclRemoteError: A call failed possibly due to a "
    "network error or a remote process exiting prematurely."
)
PORT_TAKEN = (
    "DistNetworkError: The server socket has failed to listen on any local network address. port: "
    "34465, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
)
RECEIVE_TIMED_OUT = (
    f"{GLOO}unbound_buffer.cc:78] Timed out waiting 2000ms for recv operation to complete"
)
CUDA_FULL = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity "
    "of 79.11 GiB of which 3.28 GiB is free."
)
CPU_FULL = (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
    "allocate memory: you tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate "
    "memory)"
)
CUDA_ERROR = "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"
CUBLAS_FULL = (
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`\nException raised"
)
CUDNN_FULL = "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"
NUMPY_FULL = (
    "MemoryError: Unable to allocate 256. TiB for an array with shape (35184372088832,) and data "
    "type float64"
)
FAULT = (  # of Python 3.11
    "Fatal Python error: Segmentation fault",
    "",
    "Current thread 0x00007f877ce6bb80 (most recent call first):",
    '  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at',
    '  File "task.py", line 4 in loss',
    '  File "task.py", line 5 in <module>',
    "",
    "Extension modules: numpy._core._multiarray_umath, numpy.linalg._umath_linalg, yaml._yaml "
    "(total: 3)",
)
CLIENTS_MISSING = (
    "DistStoreError: Timed out after 3 seconds waiting for clients. 1/2 clients joined."
)
NO_SERVER = (
    "DistNetworkError: The client socket has timed out after 2000ms while trying to connect to "
    "(127.0.0.1, 1)."
)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("ValueError: boom", Cause.CRASH),
        ("AssertionError", Cause.CRASH),
        ("ValueError: ImportError: is not how it starts", Cause.CRASH),
        ("ModuleNotFoundError: No module named 'soundfile'", Cause.IMPORT),
        ("ImportError: cannot import name 'x' from 'y'", Cause.IMPORT),
        ("SyntaxError: invalid syntax (task.py, line 3)", Cause.IMPORT),
        (CUDA_FULL, Cause.OUT_OF_MEMORY),
        (CPU_FULL, Cause.OUT_OF_MEMORY),
        (NUMPY_FULL, Cause.OUT_OF_MEMORY),
        (f"AcceleratorError: {CUDA_ERROR}", Cause.OUT_OF_MEMORY),
        (f"RuntimeError: {CUBLAS_FULL}", Cause.OUT_OF_MEMORY),
        (f"RuntimeError: {CUDNN_FULL}", Cause.OUT_OF_MEMORY),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED", Cause.CRASH),
        ("OSError: [Errno 28] No space left on device", Cause.DISK_FULL),
        ("OSError: [Errno 122] Disk quota exceeded: 'x'", Cause.DISK_FULL),
        (PORT_TAKEN, Cause.RENDEZVOUS),
        ("DistStoreError: wait timeout after 1000ms, keys: /x", Cause.RENDEZVOUS),
        (CLIENTS_MISSING, Cause.RENDEZVOUS),
        (NO_SERVER, Cause.RENDEZVOUS),
        ("RendezvousTimeoutError: ", Cause.RENDEZVOUS),
        ("OSError: [Errno 98] Address already in use", Cause.RENDEZVOUS),
        (RECEIVE_TIMED_OUT, Cause.HANG),
        (CLOSED, Cause.UNKNOWN),
        (RESET, Cause.UNKNOWN),
        (NCCL_GONE, Cause.UNKNOWN),
    ],
)
def test_what_a_rank_raised(message: str, cause: Cause) -> None:
    assert of_rank(exit_code=1, message=message).cause == cause


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (2, Cause.CONFIG),
        (3, Cause.CONFIG),
        (78, Cause.CONFIG),
        (65, Cause.DATA),
        (70, Cause.NAN),
        (71, Cause.OUT_OF_MEMORY),
        (74, Cause.DISK_FULL),
        (1, Cause.CRASH),
        (5, Cause.CRASH),
    ],
)
def test_what_a_rank_says_by_its_exit_code(code: int, cause: Cause) -> None:
    """The code counts more than words that happen to be in the message."""
    assert of_rank(exit_code=code, message="UsageError: it says x").cause == cause
    words = "OSError: No space left on device"
    expected = Cause.DISK_FULL if cause == Cause.CRASH else cause
    assert of_rank(exit_code=code, message=words).cause == expected


@pytest.mark.parametrize(
    ("agent", "cause", "sentence"),
    [
        # torchrun answers SIGTERM with 128 + 15, unless it is still importing torch
        (ExitStatus(143, 0), Cause.PREEMPTED, "torchrun was killed by SIGTERM"),
        (ExitStatus(0, signal.SIGTERM), Cause.PREEMPTED, "torchrun was killed by SIGTERM"),
        (ExitStatus(0, signal.SIGKILL), Cause.SIGNAL, "torchrun was killed by SIGKILL"),
        (ExitStatus(130, 0), Cause.SIGNAL, "torchrun was killed by SIGINT"),
        (ExitStatus(0, 0), Cause.UNKNOWN, "all ranks ended, but rank 0 left no result"),
        (ExitStatus(5, 0), Cause.UNKNOWN, "torchrun failed with exit code 5: what?"),
    ],
)
def test_the_agent_itself(agent: ExitStatus, cause: Cause, sentence: str) -> None:
    failure = classify(Evidence(agent, None, ("what?",), step=9))
    assert (failure.cause, failure.sentence) == (cause, sentence)


def test_torchrun_that_finds_its_port_taken() -> None:
    failure = classify(Evidence(AGENT_FAILED, None, (f"torch.distributed.{PORT_TAKEN}",)))
    assert failure.cause == Cause.RENDEZVOUS


def test_torchrun_that_finds_the_code_broken() -> None:
    lines = ("ModuleNotFoundError: No module named 'x'", "")
    assert classify(Evidence(AGENT_FAILED, None, lines)).cause == Cause.IMPORT


def test_signal_with_the_last_log_line() -> None:
    failure = of_rank("loss 1.5", step=7, signal=signal.SIGSEGV)
    assert failure.sentence == "rank 0 was killed by SIGSEGV after step 7: loss 1.5"
    assert failure.cause == Cause.SIGNAL


def test_of_a_fault_the_error_is_quoted_not_the_modules() -> None:
    died = rank_failure(0, signal=signal.SIGSEGV)
    failure = classify(Evidence(AGENT_FAILED, died, FAULT, step=7))
    assert failure.sentence == (
        "rank 0 was killed by SIGSEGV after step 7: Fatal Python error: Segmentation fault"
    )
    # As when a loader worker died of it: the rank's own words count.
    died = rank_failure(0, exit_code=1)
    failure = classify(Evidence(AGENT_FAILED, died, (*FAULT, "RuntimeError: worker died")))
    assert failure.sentence == "rank 0 failed with exit code 1: RuntimeError: worker died"


def test_the_kernel_may_have_sent_a_sigkill() -> None:
    assert of_rank(step=7, signal=signal.SIGKILL).sentence == (
        "rank 0 was killed by SIGKILL after step 7 (the kernel does so when memory runs out: "
        "`dmesg` tells)"
    )


def test_exception_is_quoted() -> None:
    failure = of_rank("  File x", exit_code=1, message="RuntimeError: boom")
    assert failure.sentence == "rank 0 failed with exit code 1: RuntimeError: boom"
    assert of_rank("ValueError: x", exit_code=1).sentence.endswith("exit code 1: ValueError: x")


def test_a_death_that_nobody_recorded() -> None:
    failure = of_rank("Fatal", step=3)
    assert failure.cause == Cause.UNKNOWN
    assert failure.sentence == "rank 0 died first after step 3, how is not on record: Fatal"


def test_a_hang() -> None:
    """Whatever the exit codes of killed processes say."""
    hung = Evidence(AGENT_FAILED, rank_failure(1), hang="rank 1 hung in forward", step=6)
    failure = classify(replace(hung, stacks="logs/rank1.stacks"))
    assert (failure.cause, failure.rank, failure.step) == (Cause.HANG, 1, 6)
    assert failure.sentence == "rank 1 hung in forward; stacks in logs/rank1.stacks"
    assert classify(hung).sentence == "rank 1 hung in forward"


def test_what_to_do_is_told_by_the_rank_or_not() -> None:
    assert of_rank(exit_code=65, message="DataError: raise the cap").advised
    assert not of_rank("killed", exit_code=65).advised
    assert not of_rank(exit_code=74, message="OSError: [Errno 28]").advised
    assert not of_rank(exit_code=1, message="ImportError: x").advised


def test_memory_that_ran_out_before_the_first_step() -> None:
    died = rank_failure(0, exit_code=int(ExitCode.OUT_OF_MEMORY))
    evidence = Evidence(AGENT_FAILED, died, step=40, first_step=40)
    assert classify(evidence).before_steps
    assert not classify(replace(evidence, step=41)).before_steps
    in_a_step = rank_failure(0, exit_code=1, message=CUDA_FULL)  # it raised: a step it was
    assert not classify(replace(evidence, died=in_a_step)).before_steps


def test_an_utterance_that_does_not_fit() -> None:
    alone = "OutOfMemoryError: out of memory ...: cut this utterance or leave it out of the split"
    assert of_rank(exit_code=71, message=alone).one_utterance
    assert not of_rank(exit_code=71, message="lower batch.max_micro_seconds").one_utterance


@pytest.mark.parametrize(
    ("failure", "known"),
    [
        (of_rank(exit_code=1, message="KeyError: 'x'"), True),
        (of_rank(signal=signal.SIGSEGV), True),
        (of_rank(signal=signal.SIGBUS), True),
        (of_rank(signal=signal.SIGABRT), True),
        (of_rank(signal=signal.SIGFPE), True),
        (of_rank(signal=signal.SIGILL), True),
        (of_rank(signal=signal.SIGKILL), False),
        (of_rank(signal=signal.SIGTERM), False),
        (of_rank(exit_code=1, message=PORT_TAKEN), False),
        (of_rank(exit_code=1, message=CLOSED), False),
        (of_rank(exit_code=71, message="out of memory"), False),
        (classify(Evidence(AGENT_FAILED, rank_failure(0), hang="rank 0 hung")), True),
        (classify(Evidence(ExitStatus(143, 0), None)), False),
        (of_rank(), False),
    ],
)
def test_what_is_the_same_failure_when_it_comes_again(failure: Failure, known: bool) -> None:
    assert failure.is_like(failure) == known
    assert not failure.is_like(replace(failure, step=failure.step + 1))
    assert not failure.is_like(None)


def test_the_evidence_stays_with_the_failure() -> None:
    died = rank_failure(2, exit_code=1, message="ValueError: \x1b[31mboom")
    evidence = Evidence(
        AGENT_FAILED, died, ("a\x1b[2J", "b"), 7, 5, ("u1", "u2"), "step-00000007/x", "r1"
    )
    failure = classify(evidence)
    document = json.loads(json.dumps(failure.to_json()))
    assert document == {
        "cause": "crash",
        "sentence": failure.sentence,
        "said": "ValueError: \x1b[31mboom",
        "rank": 2,
        "pid": 102,
        "exit_code": 1,
        "signal": 0,
        "step": 7,
        "last_lines": ["a\x1b[2J", "b"],
        "samples": ["u1", "u2"],
        "capsule": "step-00000007/x",
    }
    assert Failure.from_json(document) == failure


def test_a_long_message_is_cut_between_words() -> None:
    message = "UsageError: " + " ".join(["head.utterance.weight"] * 20)
    sentence = of_rank(exit_code=78, message=message).sentence
    assert sentence.endswith(" head.utterance.weight ...")
    assert len(sentence) < 300 + len("rank 0 failed with exit code 78: ")
    failure = of_rank(exit_code=1, message="x" * 40_000)
    assert len(failure.sentence) < 340
    assert len(failure.said) == 300


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
def test_what_tells_progress_is_no_reason(log_format: LogFormat, record: Record) -> None:
    written = json_line(record) if log_format == "json" else f"{STAMP} INFO {text(record)}"
    lines = tuple(f"{written}\n".split("\n"))
    died = rank_failure(0, signal=signal.SIGTERM)
    sentence = classify(Evidence(AGENT_FAILED, died, lines, step=40)).sentence
    assert sentence == "rank 0 was killed by SIGTERM after step 40"
