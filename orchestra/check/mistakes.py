"""What goes wrong in a task's own code, as a sentence that names file, line and function."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from orchestra.wire.errors import UsageError

_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What a mistake raises; errors of orchestra's own are none of them."""


class MistakeError(UsageError):
    """The code of a task raised what it should not have."""


@contextlib.contextmanager
def of_task(folder: Path) -> Iterator[None]:
    """Turn what the code in `folder` raises into a MistakeError."""
    try:
        yield
    except _MISTAKES as error:
        what = f"{type(error).__name__}: {error}"
        raise MistakeError(f"{_place(error, folder)}{what}") from error


def _place(error: BaseException, folder: Path) -> str:
    """The line of the task's own code where it happened, if it is one of its."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(folder):
            return f"{path.name}, line {frame.lineno}, in {frame.name}: "
    return ""
