"""Copying out of the monitor: by OSC 52 where the terminal takes it, and always into a file.

No terminal tells whether it took the text, so nobody is told that it did.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

from textual.app import App

from orchestra.wire.terminal import clean

#: Encoded; some terminals drop what is longer, or break.
_LONGEST_BYTES = 74_994


def copy(app: App[object], text: str) -> str:
    """Hand `text` to the terminal and write it to a file; what was done, in a harmless sentence."""
    told = []
    if _send(app, text):
        told.append("handed to the terminal, which may have copied it")
    else:
        told.append("too long for the terminal's clipboard")
    try:
        path = _write(text)
    except OSError as error:
        told.append(f"not written to a file: {error.strerror}")
    else:
        told.append(f"written to {path}")
    return clean("; ".join(told))


def sequences(text: str, *, tmux: bool) -> list[str]:
    """OSC 52, and inside tmux also wrapped to pass through it; none if it is too long.

    tmux takes the plain one if set-clipboard is on, the other if allow-passthrough is.
    """
    encoded = base64.b64encode(text.encode()).decode()
    if len(encoded) > _LONGEST_BYTES:
        return []
    plain = f"\x1b]52;c;{encoded}\x07"
    wrapped = plain.replace("\x1b", "\x1b\x1b")
    return [plain, f"\x1bPtmux;{wrapped}\x1b\\"] if tmux else [plain]


def copied_path() -> Path:
    """The file that holds what was copied last."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "orchestra" / "copied.txt"


def _send(app: App[object], text: str) -> bool:
    found = sequences(text, tmux="TMUX" in os.environ)
    if found:
        app.copy_to_clipboard(text)  # the plain one; Textual keeps the text for its own paste
    driver = app._driver  # Textual has no public way to write a sequence
    for wrapped in found[1:]:
        if driver is not None:
            driver.write(wrapped)
    return bool(found)


def _write(text: str) -> Path:
    """For this user alone (OSError)."""
    path = copied_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return path
