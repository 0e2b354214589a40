"""Nothing a terminal would obey is left of any text; logs keep their colours and their words."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.wire.terminal import (
    LONGEST_LINE,
    PLAIN,
    Style,
    clean,
    clean_lines,
    collapse,
    coloured,
    plain,
)

HOSTILE = (
    "\x1b]52;c;AAAA\x07",
    "\x1b]0;title\x1b\\",
    "\x1b[2J\x1b[H",
    "\x9b2J",
    "\x9d52;c;AAAA\x9c",
    "\x1bP+q544e\x1b\\",
    "\x1b_Gf=100;AAAA\x1b\\",
    "\x1b]8;;file:///etc/passwd\x1b\\click\x1b]8;;\x1b\\",
    "\x1bc\x1b(0\x1b=",
    "\u202egnp.exe\u2066\u200f",
    "\ufeff\u200b\U000e0041\u2028\u2029",
    "\udc9b\ud800",
    "\x00" * 50,
    "\x1b\x1b[0m[2J",
    "\x1b[38;5;1",
    "\x1b]0;never ended",
)
#: Any text, made likelier to hurt.
texts = st.lists(
    st.one_of(
        st.text(), st.sampled_from(HOSTILE), st.sampled_from("\x1b[]m;:0138\r\b\t\u200c\u0645")
    )
).map("".join)


def assert_harmless(text: str) -> None:
    text.encode()  # no lone surrogates
    for char in text:
        assert unicodedata.category(char) not in ("Cc", "Zl", "Zp", "Cs")
        assert unicodedata.bidirectional(char) not in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip
        assert char not in "\u061c\u200b\u200e\u200f\u2060\u3164\ufeff"
        assert not 0xE0000 <= ord(char) <= 0xE0FFF


@given(texts)
def test_clean_of_any_text(text: str) -> None:
    assert_harmless(clean(text))
    assert clean(clean(text)) == clean(text)
    assert clean_lines(clean_lines(text)) == clean_lines(text)


@given(texts, st.integers(60, 300))
def test_no_line_is_longer_than_asked_for(text: str, longest: int) -> None:
    cut = clean(text, longest)
    assert_harmless(cut)
    assert len(cut) <= longest
    assert clean(cut, longest) == cut
    shown = plain(text, longest)
    assert_harmless(shown)
    assert len(shown) <= longest
    assert plain(shown, longest) == shown


@given(texts)
def test_log_lines_of_any_text(text: str) -> None:
    for part, _ in coloured(collapse(text)):
        assert_harmless(part)
    assert collapse(collapse(text)) == collapse(text)
    assert "\b" not in collapse(text) and "\r" not in collapse(text)


@given(st.binary())
def test_log_lines_of_any_bytes(data: bytes) -> None:
    assert_harmless(plain(collapse(data.decode(errors="replace"))))


@given(texts)
def test_what_is_painted_anew_carries_colours_and_nothing_else(text: str) -> None:
    for _, style in coloured(text):
        assert set(style.sgr()) <= set("\x1b[0123456789;m")
        again = coloured(f"{style.sgr()}x")
        assert again == [("x", style)]


@pytest.mark.parametrize("attack", [text for text in HOSTILE if text != "\x1b[38;5;1"])
def test_a_line_that_hurts_still_says_its_words(attack: str) -> None:
    seen = plain(f"before {attack} after")
    assert seen.startswith("before ") and seen.endswith(" after")
    assert "AAAA" not in seen and "passwd" not in seen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u2028b", r"a\u2028b"),
        ("\ufeffa", r"\ufeffa"),
        ("a\U000e0041", r"a\U000e0041"),
        ("a\u3164b", r"a\u3164b"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),  # a joiner where it belongs
        ("a\u200db", r"a\u200db"),
    ],
)
def test_what_nobody_can_see_is_shown(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_how_much_is_cut_is_told() -> None:
    assert clean("x" * 100_000, 4096).endswith("x ... 95944 characters cut")
    assert len(clean("\x00" * 100_000, 4096)) <= 4096
    assert plain("\x1b[31m" + "x" * 100_000).endswith("characters cut")
    assert len(plain("y" * LONGEST_LINE)) == LONGEST_LINE
    assert clean("y" * 5000) == "y" * 5000


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("10%|#  |\r20%|## |\r30%|###|", "30%|###|"),
        ("10%|#  |\r30%|###|\r", "30%|###|"),
        ("\r\r", ""),
        ("abc\b\bX", "aX"),
        ("\b\bX", "X"),
        ("plain", "plain"),
    ],
)
def test_overwritten_lines(line: str, shown: str) -> None:
    assert collapse(line) == shown


def test_a_long_line_of_backspaces_takes_time_by_its_length_alone() -> None:
    """By its square, this would take most of an hour."""
    assert collapse(f"kept{'x' * 500_000}{chr(8) * 500_000}") == "kept"


@pytest.mark.parametrize(
    ("codes", "style"),
    [
        ("31", Style(foreground=1)),
        ("1;92", Style(foreground=10, bold=True)),
        ("38;5;208", Style(foreground=208)),
        ("48;2;1;2;3", Style(background=(1, 2, 3))),
        ("38:2::1:2:3", Style(foreground=(1, 2, 3))),
        ("3;4;7;2", Style(italic=True, underline=True, reverse=True, dim=True)),
        ("1;22", PLAIN),
        ("31;0", PLAIN),
        ("31;41", PLAIN),  # hidden
        ("38;5", PLAIN),
        ("?25", PLAIN),
        ("999999999", PLAIN),
    ],
)
def test_colours(codes: str, style: Style) -> None:
    assert coloured(f"\x1b[{codes}mx") == [("x", style)]


def test_links_and_titles_leave_their_text() -> None:
    assert plain("see \x1b]8;;http://a\x1b\\here\x1b]8;;\x1b\\ \x1b]0;t\x07now") == "see here now"
    assert plain("\x1b]0;never ended") == r"\x1b]0;never ended"
