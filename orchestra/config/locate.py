"""In which line of a TOML text a key or table stands.

A scanner, not a parser: it only reads texts that tomli has accepted, so it may trust the grammar.
It evaluates nothing; values are stepped over, except that inline tables and arrays are entered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import tomli

from orchestra.config.problems import KeyPath

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'  # up to two quotes may touch the closing three
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")


def line_numbers(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of each key, table and array element of a valid TOML text.

    A table that several headers or dotted keys extend has the line of the first of them.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


@dataclass
class _Scanner:
    text: str
    at: int = 0
    lines: dict[KeyPath, int] = field(default_factory=dict)
    _line: int = 1
    _counted: int = 0
    _elements: dict[KeyPath, int] = field(default_factory=dict)  # [[table]]: how many so far

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            table = self._header() if self._peek() == "[" else self._statement(table)
            self._skip(_BLANK)

    def _header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`: the table that the next statements belong to."""
        line = self._line_here()
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        table: KeyPath = ()
        for part in self._key():
            table = self._current((*table, part))
            self.lines.setdefault(table, line)
        self.at += 2 if array else 1
        if array:
            path = table[:-1] if isinstance(table[-1], int) else table
            self._elements[path] = self._elements.get(path, -1) + 1
            table = (*path, self._elements[path])
            self.lines[table] = line
        return table

    def _current(self, path: KeyPath) -> KeyPath:
        """`path`, or its newest element where it is an array of tables."""
        return (*path, self._elements[path]) if path in self._elements else path

    def _statement(self, table: KeyPath) -> KeyPath:
        """`a.b = value` within `table`."""
        line = self._line_here()
        path = table
        for part in self._key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.at += 1  # =
        self._skip(_SPACE)
        self._value(path)
        return table

    def _key(self) -> list[str]:
        """A dotted key; the position ends at what follows it (`=` or `]`)."""
        parts = []
        while True:
            self._skip(_SPACE)
            quoted = _STRING.match(self.text, self.at)
            if quoted:
                parts.append(str(tomli.loads(f"key = {quoted[0]}")["key"]))
                self.at = quoted.end()
            else:
                parts.append(self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if self._peek() != ".":
                return parts
            self.at += 1

    def _value(self, path: KeyPath) -> None:
        opening = self._peek()
        if opening == "{":
            self._sequence("}", lambda _: self._statement(path))
        elif opening == "[":
            self._sequence("]", lambda number: self._element((*path, number)))
        elif string := _STRING.match(self.text, self.at):
            self.at = string.end()
        else:
            self._skip(_SCALAR)

    def _element(self, path: KeyPath) -> None:
        self.lines[path] = self._line_here()
        self._value(path)

    def _sequence(self, closing: str, item: Callable[[int], object]) -> None:
        """Items between the bracket here and `closing`, with commas between and maybe after."""
        self.at += 1
        number = 0
        self._skip(_BLANK)
        while self._peek() != closing:
            item(number)
            number += 1
            self._skip(_BLANK)
            if self._peek() == ",":
                self.at += 1
                self._skip(_BLANK)
        self.at += 1

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        assert found is not None, f"not TOML at offset {self.at}"
        self.at = found.end()
        return found[0]

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line
