"""Why attempts of a run failed and what was done, for people. Prints what `describe` found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from orchestra.cli.output import emit, emit_raw
from orchestra.cli.result import bold
from orchestra.wire.terminal import clean

_COLUMNS = 100
_LAST_ATTEMPTS = 5


def print_failures(attempts: Sequence[dict[str, Any]]) -> None:
    """Two sentences for each attempt: why it died, what was done."""
    if len(attempts) > _LAST_ATTEMPTS:
        emit(f"  {len(attempts) - _LAST_ATTEMPTS} earlier attempts failed (`--json` tells)")
    for attempt in attempts[-_LAST_ATTEMPTS:]:
        failure = attempt["failure"]
        why = f"attempt {attempt['number']}, {failure['cause']}: {failure['sentence']}"
        first, *more = wrap(why, _COLUMNS - 4)
        emit(f"  {first}")
        for line in (*more, *wrap(f"-> {failure['action']}", _COLUMNS - 4)):
            emit(f"    {line}")


def print_last_words(failure: dict[str, Any]) -> None:
    """The end of the log of what failed first."""
    if not failure["last_lines"]:
        return
    who = "torchrun" if failure["rank"] is None else f"rank {failure['rank']}"
    emit()
    emit_raw(bold(f"Last words of {who}"))
    for line in failure["last_lines"]:
        text = clean(line)
        emit(f"  {text if len(text) <= _COLUMNS - 2 else f'{text[: _COLUMNS - 6]} ...'}")


def untold(text: str, attempts: Sequence[dict[str, Any]]) -> str:
    """`text` without what `print_failures` says of these attempts."""
    for attempt in attempts:
        told = f"{attempt['failure']['sentence']}; {attempt['failure']['action']}"
        before, found, after = text.partition(told)
        if found:
            return before.removesuffix(": ") + after.removeprefix("; ")
    return text


def wrap(text: str, columns: int) -> list[str]:
    """Harmless lines of at most so many columns; paths and other long words stay whole."""
    return textwrap.wrap(clean(text), columns, break_long_words=False, break_on_hyphens=False)
