"""Exit codes of the CLI and of the training processes."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """0-5 and 130 are the CLI's documented codes; 65-78 are spoken by ranks only."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    TIMEOUT = 5
    INTERRUPTED = 130

    # sysexits.h numbers, so that a plain torchrun user can look them up too.
    BAD_DATA = 65
    NOT_FINITE = 70
    OUT_OF_MEMORY = 71
    BAD_CONFIG = 78
    DISK_FULL = 74


def cli_code(code: int) -> ExitCode:
    """What the CLI exits with, where a part of it ended with `code`: ranks' codes mean failed."""
    known = code in set(ExitCode) and (code <= ExitCode.TIMEOUT or code == ExitCode.INTERRUPTED)
    return ExitCode(code) if known else ExitCode.FAILED
