"""A program in a pseudo-terminal: what it draws, as a person sees it, and every byte it sends.

with Terminal([sys.executable, "-m", "orchestra", "tui"], size=(120, 36)) as terminal:
    terminal.wait_for("first-run")
    terminal.press("j", "enter")
    terminal.quit("q")
assert_no_private_strings(terminal.sent)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyte

_KEYS = {
    "enter": "\r",
    "escape": "\x1b[27u",  # as the newer protocol has it: no beginning of another key
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "space": " ",
    "backspace": "\x7f",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "delete": "\x1b[3~",
    **{f"f{n}": f"\x1bO{letter}" for n, letter in zip(range(1, 5), "PQRS", strict=True)},
}
_QUIET_S = 0.15


class Terminal:
    """`argv` in a terminal of `size` columns and rows. Leaving the context ends it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        size: tuple[int, int] = (80, 24),
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.sent = b""
        """All it has written."""
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, its = pty.openpty()
        self._set_size(*size)
        size_of_others = {"COLUMNS", "LINES"}  # believed before the terminal itself
        own = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("ORCH") and key not in size_of_others
        }
        self._process = subprocess.Popen(
            argv,
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=cwd,
            env={**own, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})},
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(its)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        os.close(self._ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed and hands it on by lines."""
        flags = termios.tcgetattr(self._ours)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    @property
    def text(self) -> str:
        """The screen as it is now, without blanks at line ends."""
        self._read(0.0)
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def cells(self) -> pyte.Screen:
        """The screen with colours: `cells.buffer[row][column]`."""
        return self._screen

    def wait_for(self, what: str | Callable[[str], bool], timeout_s: float = 60.0) -> str:
        """The screen's text once it contains `what`, or once `what` says so of it."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = self.text
            if what in seen if isinstance(what, str) else what(seen):
                return seen
            ended = self._process.poll() is not None and not self._read(0.0)
            assert not ended, f"it has ended ({self._process.returncode}):\n{seen}"
            assert time.monotonic() < deadline, f"no {what!r} within {timeout_s:g} s:\n{seen}"
            self._read(0.05)

    def settle(self, timeout_s: float = 10.0) -> str:
        """The screen's text once nothing has been drawn for a moment."""
        deadline = time.monotonic() + timeout_s
        while self._read(_QUIET_S) and time.monotonic() < deadline:
            pass
        return self.text

    def press(self, *keys: str) -> None:
        """Named keys (`enter`, `ctrl+c`, `pageup` ...) or characters."""
        for key in keys:
            if key.startswith("ctrl+"):
                self.send(chr(ord(key[5:].upper()) - 64))
            else:
                self.send(_KEYS.get(key, key))
            self._read(0.02)

    def send(self, text: str) -> None:
        """As if typed or pasted."""
        os.write(self._ours, text.encode())

    def paste(self, text: str) -> None:
        """From a clipboard, as terminals wrap it."""
        self.send(f"\x1b[200~{text}\x1b[201~")

    def click(self, column: int, row: int) -> None:
        """The left button, at a cell counted from 0."""
        self.send(f"\x1b[<0;{column + 1};{row + 1}M\x1b[<0;{column + 1};{row + 1}m")

    def click_on(self, text: str) -> None:
        """The first place where it is to be seen."""
        for row, line in enumerate(self.wait_for(text).split("\n")):
            if text in line:
                self.click(line.index(text), row)
                return

    def wheel(self, column: int, row: int, *, up: bool) -> None:
        """One notch."""
        self.send(f"\x1b[<{64 if up else 65};{column + 1};{row + 1}M")

    def resize(self, columns: int, rows: int) -> None:
        """The window changes."""
        self._set_size(columns, rows)
        self._screen.resize(rows, columns)
        os.kill(self._process.pid, signal.SIGWINCH)

    def exit_code(self, timeout_s: float = 60.0) -> int:
        """Wait for its end; all it said until then is in `sent`."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
            self._read(0.05)
        while self._read(0.0):
            pass
        return self._process.returncode

    def _read(self, timeout_s: float) -> bool:
        """Take what there is; whether there was anything."""
        got = False
        while select.select([self._ours], [], [], 0.0 if got else timeout_s)[0]:
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # its last writer has gone
                return got
            if not data:
                return got
            got = True
            self.sent += data
            self._stream.feed(_drawable(data))
        return got

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _own_terminal() -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


# pyte prints the `$p`, `>` and `<` forms of CSI it does not know as text.
_UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[?>=<][0-9;]*\$?[a-zA-Z]")
_MODES = re.compile(rb"\x1b\[\?[0-9;]*[hl]")


def _drawable(data: bytes) -> bytes:
    return _UNKNOWN_TO_PYTE.sub(lambda match: match[0] if _MODES.fullmatch(match[0]) else b"", data)


_STRINGS = re.compile(rb"\x1b([]PX^_])([^\x07\x1b]*)(?:\x07|\x1b\\|$)")
_POINTER = re.compile(rb"\x1b\]22;[a-z-]{0,20}\x07")  # the mouse's shape: Textual's own
#: CSI that a harmless Textual program sends: colours, moves, clearing, modes, questions.
_CSI = re.compile(rb"\x1b\[([0-?]*)([ -/]*)([@-~])")
_HARMLESS_FINALS = b"mHhlupK"
_C1 = re.compile("[\x80-\x9f]")


def assert_no_private_strings(sent: bytes) -> None:
    """No OSC (clipboard, title, links), DCS, APC, PM or SOS; no C1 forms, no bidi marks, nothing
    but colours, moves and modes."""
    sent = _POINTER.sub(b"", sent)
    for match in _STRINGS.finditer(sent):
        raise AssertionError(f"it sent {match[0][:80]!r}")
    text = sent.decode(errors="replace")
    assert not _C1.search(text), f"C1: {_C1.search(text)}"
    assert not set(text) & set(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200f\u200e\ufeff"
    )
    for match in _CSI.finditer(sent):
        assert match[3] in _HARMLESS_FINALS, f"it sent {match[0]!r}"
    left = _CSI.sub(b"", sent)
    for escape in re.findall(rb"\x1b.?", left):
        assert escape in (b"\x1b7", b"\x1b8", b"\x1b=", b"\x1b>", b"\x1b("), f"it sent {escape!r}"
