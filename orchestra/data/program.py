"""What every `python -m orchestra.data.<program>` does alike: arguments, output, exit codes.

The result is one JSON document on stdout, progress goes to stderr line by line, an OrchestraError
becomes one sentence on stderr and its exit code, and Ctrl-C ends with 130.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import sched_getaffinity
from typing import Any, TypeVar

from orchestra.wire.errors import OrchestraError
from orchestra.wire.exit_codes import ExitCode, cli_code
from orchestra.wire.terminal import clean_lines

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[argparse.Namespace], "Outcome"]


class Outcome:
    """The document to print, if there is one, and the exit code."""

    def __init__(self, document: dict[str, Any] | None, code: ExitCode = ExitCode.OK) -> None:
        self.document = document
        self.code = code


def run(parser: argparse.ArgumentParser, work: Work, argv: Sequence[str] | None = None) -> int:
    """Parse, work, print; returns the exit code for sys.exit()."""
    arguments = parser.parse_args(argv)
    try:
        outcome = work(arguments)
    except OrchestraError as error:
        return _fail(parser, str(error), error.exit_code)
    except OSError as error:
        return _fail(parser, f"{error.filename}: {error.strerror}", ExitCode.FAILED)
    except KeyboardInterrupt:
        return _fail(parser, "interrupted; run the same command again", ExitCode.INTERRUPTED)
    if outcome.document is not None:
        print(json.dumps(outcome.document, indent=1))
    return int(outcome.code)


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], *, per_core: int = 1
) -> Iterator[Result]:
    """work(item) for all items, in order; what has not begun is dropped on Ctrl-C.

    Threads serve, because libsndfile, soxr and NumPy work outside the interpreter lock.
    """
    pool = ThreadPoolExecutor(max_workers=per_core * len(sched_getaffinity(0)))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _fail(parser: argparse.ArgumentParser, sentence: str, code: ExitCode) -> int:
    say(f"{parser.prog}: {sentence}")
    return cli_code(code)


def say(text: str) -> None:
    """One progress line; file names in it may hold anything."""
    print(clean_lines(text), file=sys.stderr, flush=True)
