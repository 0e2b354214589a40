"""Colours of runs: told apart by the colour-blind too, and a run's own for as long as it is seen.

Pure. After Okabe and Ito; one palette for dark backgrounds, one for light ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

ON_DARK = ("#56b4e9", "#e69f00", "#2fbf8f", "#f0e442", "#e8743b", "#cc79a7", "#8c9eff", "#d0d0d0")
ON_LIGHT = ("#0072b2", "#b06f00", "#00755a", "#857b00", "#c04a00", "#a0478a", "#4b3fc4", "#555555")


def assign(run_ids: Iterable[str], before: Mapping[str, int]) -> dict[str, int]:
    """A number of the palette for each run, the one it had if no other run took it.

    A run new to the screen gets the number that its id stands for, or the next free one.
    """
    wanted = list(run_ids)[: len(ON_DARK)]
    found: dict[str, int] = {}
    for run_id in wanted:
        if run_id in before and before[run_id] not in found.values():
            found[run_id] = before[run_id]
    for run_id in wanted:
        slot = zlib.crc32(run_id.encode()) % len(ON_DARK)
        while run_id not in found:
            if slot not in found.values():
                found[run_id] = slot
            slot = (slot + 1) % len(ON_DARK)
    return found


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def run_colour(number: int, *, dark: bool = True) -> str:
    """Of the run with this place in a legend; they repeat after eight, letters tell on."""
    return (ON_DARK if dark else ON_LIGHT)[number % len(ON_DARK)]


def run_letter(number: int) -> str:
    """What stands for it where colour is not enough."""
    return LETTERS[number % len(LETTERS)]
