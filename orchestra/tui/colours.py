"""Colours of runs in charts and lanes: told apart with any colour vision, on light and dark."""

from __future__ import annotations

# Okabe and Ito's set, its black and yellow left out: they vanish on dark and on light.
RUN_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def run_colour(number: int) -> str:
    """Of the run with this place in a legend; they repeat after six, letters tell on."""
    return RUN_COLOURS[number % len(RUN_COLOURS)]


def run_letter(number: int) -> str:
    """What stands for it where colour is not enough."""
    return LETTERS[number % len(LETTERS)]
