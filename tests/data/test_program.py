from __future__ import annotations

import argparse
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestra.data.program import Outcome, in_threads, run, say
from orchestra.wire.errors import ConflictError, DataError
from orchestra.wire.exit_codes import ExitCode


def run_raising(error: BaseException) -> int:
    def work(_: argparse.Namespace) -> Outcome:
        raise error

    return run(argparse.ArgumentParser(prog="data test"), work, [])


def test_the_document_goes_to_stdout_and_progress_to_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work(_: argparse.Namespace) -> Outcome:
        say("half way")
        return Outcome({"name": "Zoë"}, ExitCode.FAILED)

    assert run(argparse.ArgumentParser(), work, []) == ExitCode.FAILED
    captured = capfd.readouterr()
    assert json.loads(captured.out) == {"name": "Zoë"}
    assert captured.err == "half way\n"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ConflictError("it is taken"), ExitCode.CONFLICT, "it is taken"),
        # The codes from 64 on are for ranks; the CLI documents 1.
        (DataError("it is corrupt"), ExitCode.FAILED, "it is corrupt"),
        (OSError(28, "No space left on device", "/full"), ExitCode.FAILED, "/full: No space left"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted"),
    ],
)
def test_expected_failures_are_one_sentence_and_a_code(
    capfd: pytest.CaptureFixture[str], error: BaseException, code: ExitCode, sentence: str
) -> None:
    assert run_raising(error) == code
    captured = capfd.readouterr()
    assert captured.err.startswith(f"data test: {sentence}")
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_file_names_are_harmless(capfd: pytest.CaptureFixture[str]) -> None:
    run_raising(DataError("a\x1b]52;c;AAAA\x07.wav is corrupt"))
    say("\x1b[2J.wav")
    assert capfd.readouterr().err.count("\\x1b") == 2
    assert "\x1b" not in capfd.readouterr().err


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_raising(ZeroDivisionError())


def test_results_come_in_order() -> None:
    assert list(in_threads(lambda n: n * n, range(50))) == [n * n for n in range(50)]


def test_an_error_drops_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    going_down = threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def tell_and_shut_down(pool: ThreadPoolExecutor, **how: bool) -> None:
        shutdown(pool, wait=False, **how)
        going_down.set()
        shutdown(pool)

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise DataError("the first one")
        going_down.wait()

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", tell_and_shut_down)
    with pytest.raises(DataError):
        list(in_threads(work, range(10_000)))
    assert len(begun) < 1000
