"""How often and after which pauses a request is made again. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


class TransientError(Exception):
    """A failure that may be gone in a moment: a dropped connection, a busy server."""

    def __init__(
        self, reason: str, retry_after_s: float | None = None, *, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        """What the server asked for."""
        self.unreachable = unreachable
        """No server has answered at all: there may be no network here."""


@dataclass(frozen=True)
class Patience:
    """When to give up. Bytes that come in between make a failure the first again."""

    failures: int = 6
    """In a row without a byte of progress."""
    unreachable: int = 3
    """Of these, where no server answers at all."""
    first_pause_s: float = 1.0
    """Doubled after each failure."""
    longest_pause_s: float = 30.0
    longest_asked_s: float = 300.0
    """Of the pauses that servers ask for; a longer one ends it."""
    connect_s: float = 10.0
    silence_s: float = 30.0
    """Without a byte from the server."""

    def pause_s(self, failures: int, error: TransientError) -> float | None:
        """The pause after so many failures in a row; None: give up."""
        if failures >= (self.unreachable if error.unreachable else self.failures):
            return None
        asked = error.retry_after_s
        if asked is not None:
            return asked if asked <= self.longest_asked_s else None
        return float(min(self.first_pause_s * 2 ** (failures - 1), self.longest_pause_s))
