"""What goes wrong in a task's own code, as a sentence that names file, line and function."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from orchestra.wire.errors import OrchestraError, UsageError, in_words


class Violation(OrchestraError):
    """The task breaks a rule; the message says where, and what to do."""


class MistakeError(UsageError):
    """The code of a task raised what it should not have."""


@contextlib.contextmanager
def of_task(folder: Path) -> Iterator[None]:
    """Turn what the code in `folder` raises into a MistakeError, but for errors with a sentence."""
    try:
        yield
    except (Exception, SystemExit) as error:  # there is nothing that such code can't raise
        if isinstance(error, OrchestraError) and str(error):
            raise
        raise MistakeError(f"{_place(error, folder)}{in_words(error)}") from error


def _place(error: BaseException, folder: Path) -> str:
    """The line of the task's own code where it happened, if it is one of its."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(folder):
            return f"{path.name}, line {frame.lineno}, in {frame.name}: "
    return ""
