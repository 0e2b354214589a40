"""The one error root. A message is one sentence: what, where (file, line, flag, id), what to do."""

from __future__ import annotations

from typing import ClassVar

from orchestra.wire.exit_codes import ExitCode


class OrchestraError(Exception):
    """An expected failure whose text is shown to the user as it is, without a traceback."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class UsageError(OrchestraError):
    """The command, the config or a file named by the user is wrong."""

    exit_code = ExitCode.USAGE


class NotFoundError(OrchestraError):
    """The named run, task, preset or split does not exist, or the name is ambiguous."""

    exit_code = ExitCode.NOT_FOUND


class ConflictError(OrchestraError):
    """Something else holds what was asked for: a GPU, a name, a run in another state."""

    exit_code = ExitCode.CONFLICT


class WaitTimeoutError(OrchestraError):
    """The wait ended before the run did."""

    exit_code = ExitCode.TIMEOUT


class DataError(OrchestraError):
    """A recording, transcript or manifest can't be used; the message names its id or path."""

    exit_code = ExitCode.BAD_DATA


class OutOfMemoryError(OrchestraError):
    """A micro-batch does not fit into the memory of its device."""

    exit_code = ExitCode.OUT_OF_MEMORY


class DiskFullError(OrchestraError):
    """A file did not fit on its disk."""

    exit_code = ExitCode.DISK_FULL


class NotFiniteError(OrchestraError):
    """Training diverged; the same config would diverge again."""

    exit_code = ExitCode.NOT_FINITE


def in_words(error: BaseException) -> str:
    """Type and text of an error that has no sentence for the user; some have no text at all."""
    kind, text = type(error).__name__, str(error)
    return f"{kind}: {text}" if text else f"{kind}, without a word of why"
