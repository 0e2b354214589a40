"""Text from outside (names, paths, exception texts, log lines) made harmless for a terminal."""

from __future__ import annotations

import re

# C0 and C1 controls (line breaks and tabs too), DEL, and the marks that turn text around.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` on one line without anything a terminal would obey: printed as its escape."""
    return _UNSAFE.sub(lambda match: repr(match[0])[1:-1], text)


def clean_lines(text: str) -> str:
    """`clean` of each line; line breaks and tabs stay."""
    return "\n".join(clean(line.replace("\t", "    ")) for line in text.split("\n"))
