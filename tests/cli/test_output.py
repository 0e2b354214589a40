"""What reaches a terminal is harmless, whoever wrote it; what scripts read is plain."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.cli.context import hoist, verb_of
from orchestra.cli.output import emit, emit_json, table
from orchestra.formats import duration, number, size
from orchestra.schedule.submission import cpu_command
from orchestra.wire.exit_codes import ExitCode, cli_code
from orchestra.wire.terminal import clean, clean_lines


@given(st.text())
def test_clean_lets_nothing_through_that_a_terminal_obeys(text: str) -> None:
    cleaned = clean(text)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in cleaned)
    cleaned.encode()  # no lone surrogates either


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;AAAA\x07", r"\x1b]52;c;AAAA\x07"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\u202eevil", r"\u202eevil"),
        ("größer 語 [/b]", "größer 語 [/b]"),
    ],
)
def test_clean_shows_escapes_and_keeps_words(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_clean_lines_keeps_lines() -> None:
    assert clean_lines("a\n\x1b[2Jb") == "a\n\\x1b[2Jb"


def test_data_lines_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    emit("failed: \x1b]52;c;AAAA\x07\nsecond")
    assert capsys.readouterr().out == "failed: \\x1b]52;c;AAAA\\x07\nsecond\n"


def test_codes_that_ranks_speak_are_failures_to_the_user() -> None:
    codes = (0, 1, 2, 5, 6, 64, 65, 130, -2, -9)
    assert [int(cli_code(code)) for code in codes] == [0, 1, 2, 5, 1, 1, 1, 130, 1, 1]
    assert cli_code(ExitCode.BAD_DATA) is ExitCode.FAILED


def test_table_is_aligned_plain_and_clean(capsys: pytest.CaptureFixture[str]) -> None:
    table([{"id": "a", "n": "5"}, {"id": "b\x1b[1m", "n": "10"}], right=("n",))
    out = capsys.readouterr().out
    assert out.splitlines() == ["ID         N", "a          5", r"b\x1b[1m  10"]


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"a": [math.nan, 1.5], "b": math.inf, "c": "é\x1b"})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": [None, 1.5],
        "b": None,
        "c": "é\x1b",
    }


def test_units() -> None:
    assert [duration(s) for s in (None, math.inf, 0, 75, 3720, 90000)] == [
        "-", "-", "0s", "1m15s", "1h02m", "1d01h",
    ]  # fmt: skip
    assert [size(n) for n in (10, 2048, 3 * 2**30)] == ["10 B", "2.0 KiB", "3.0 GiB"]
    assert (number(None), number(0.123456), number(120.0)) == ("-", "0.1235", "120")
    assert (number(46970), number(46970.0), number(46970.4)) == ("46970", "46970", "46970")
    assert (number(0), number(12345678), number(-98765.4)) == ("0", "12345678", "-98765")
    assert (number(2.5e9), number(1e-7), number(math.nan)) == ("2500000000", "1e-07", "nan")


def test_global_options_may_stand_anywhere() -> None:
    assert hoist(["ls", "--runs-dir", "D", "-n", "3"]) == ["--runs-dir", "D", "ls", "-n", "3"]
    assert hoist(["ls", "--workspace=W"]) == ["--workspace=W", "ls"]
    assert hoist(["x", "--", "--workspace", "W"]) == ["x", "--", "--workspace", "W"]
    assert verb_of(["--runs-dir", "ls", "--workspace=W", "show"]) == "show"
    assert verb_of(["--help"]) is None
    assert verb_of(["--", "ls"]) == "ls"
    assert verb_of(["--runs-dir"]) is None


def test_the_cpu_form_of_a_command() -> None:
    assert cpu_command(["run", "asr", "--gpus", "4"]) == "orchestra run asr --cpu --nproc 4"
    assert cpu_command(["run", "a b", "--gpu-ids=0,1"]) == "orchestra run 'a b' --cpu --nproc 2"
    assert cpu_command(["eval", "x", "--split", "s"]) == "orchestra eval x --split s --cpu"
