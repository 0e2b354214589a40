"""The filter language: what is understood how, and what is said about the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.schedule.query import (
    EVERYTHING,
    LONGEST,
    And,
    Anywhere,
    Compares,
    Equals,
    Expression,
    Has,
    InStates,
    Matches,
    Not,
    Or,
    Pattern,
    Sort,
    parse,
    parse_sort,
)
from orchestra.schedule.query_fields import FIELDS, Field, Kind
from orchestra.wire.errors import UsageError
from orchestra.wire.states import RunState

LR = Field("cfg.optim.lr", Kind.VALUE, "optim.lr")
WER = Field("eval.test-clean.wer", Kind.NUMBER, "wer", "test-clean")
NAME, LOSS, CREATED = FIELDS["name"], FIELDS["loss"], FIELDS["created"]


def word(text: str) -> Anywhere:
    return Anywhere(Pattern(text))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", EVERYTHING),
        ("  ", EVERYTHING),
        ("asr", word("asr")),
        ("asr wavlm", And((word("asr"), word("wavlm")))),
        ("asr and wavlm", And((word("asr"), word("wavlm")))),
        ("a or b c", Or((word("a"), And((word("b"), word("c")))))),
        ("(a or b) c", And((Or((word("a"), word("b"))), word("c")))),
        ("-a", Not(word("a"))),
        ("not a", Not(word("a"))),
        ("NOT -a", word("a")),
        ("-(a b)", Not(And((word("a"), word("b"))))),
        ("a-b", word("a-b")),
        ("a - b", And((word("a"), word("-"), word("b")))),
        ("order", word("order")),
        ('"or"', word("or")),
        ("'a b' c", And((word("a b"), word("c")))),
        (r'"a \"b\" \\ \c"', word(r'a "b" \ \c')),
        ("it's", word("it's")),
        ("wow!", word("wow!")),
        ("pro*be", Anywhere(Pattern("pro*be", wild=True))),
        ("name:probe", Matches(NAME, Pattern("probe"))),
        ("NAME:pro?e", Matches(NAME, Pattern("pro?e", wild=True))),
        ('name:"a*"', Matches(NAME, Pattern("a*"))),
        ("name=probe*", Equals(NAME, "probe*")),
        ("name!=x", Not(Equals(NAME, "x"))),
        ("status:fail", InStates((RunState.FAILED,))),
        ("state:R*ing", InStates((RunState.RUNNING, RunState.RESTARTING))),
        ("state!=failed", Not(InStates((RunState.FAILED,)))),
        ("loss<2", Compares(LOSS, "<", 2.0)),
        ("loss >= -1e-4", Compares(LOSS, ">=", -1e-4)),
        ("step>10k", Compares(FIELDS["step"], ">", 10_000.0)),
        ("gpus:4", Equals(FIELDS["gpus"], "4", 4.0)),
        ("loss==2", Equals(LOSS, "2", 2.0)),
        ("dirty:no", Equals(FIELDS["dirty"], "no", 0.0)),
        ("created<2h", Compares(CREATED, "<", 7200.0)),
        ("age>1d12h", Compares(FIELDS["age"], ">", 129_600.0)),
        ("tag:paper", Matches(FIELDS["tag"], Pattern("paper"))),
        ("has:note", Has(FIELDS["note"])),
        ("has:cfg.optim.lr", Has(LR)),
        ("cfg.optim.lr>1e-4", Compares(LR, ">", 1e-4)),
        ("config.optim.lr=3e-4", Equals(LR, "3e-4", 3e-4)),
        ("cfg.optim.lr:true", Matches(LR, Pattern("true"), 1.0)),
        ('cfg.optim.lr="1"', Equals(LR, "1")),
        ("eval.test-clean.wer<5", Compares(WER, "<", 5.0)),
    ],
)
def test_what_is_understood(text: str, tree: Expression) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        ("stat:failed", 1, "did you mean state?"),
        ("a lr>1", 3, "cfg.KEY"),
        ("http://x", 1, "quote it"),
        ("has:lr", 5, "no field 'lr'"),
        ("state:sleeping", 7, "queued, starting, running"),
        ("doing:stalled", 1, "queued, starting, running"),
        ("state<failed", 7, "takes : or ="),
        ("loss:low", 6, "a number"),
        ("loss<nan", 6, "a number"),
        ("name<b", 6, "name:PART"),
        ("tag>b", 5, "tag:PART"),
        ("created=2h", 9, "created<2h"),
        ("created<yesterday", 9, "units are"),
        ("created<2", 9, "units are"),
        ("dirty:maybe", 7, "yes or no"),
        ("cfg.optim.kind>adam", 16, "no number"),
        ('cfg.a"b:1', 1, "no field"),
        ("name:", 6, "a value is missing"),
        ("name: x", 6, "a value is missing"),
        ("loss <", 7, "a value is missing"),
        (":x", 1, "a field must stand before :"),
        ("a !=b", 1, "no field 'a'"),
        ("(a", 1, "there is no ) for this ("),
        ("a)", 2, "there is no ( for this )"),
        ("()", 2, "missing here"),
        ("a or", 5, "missing here"),
        ("a and", 6, "missing here"),
        ("not", 4, "missing here"),
        ("or b", 1, "missing before this"),
        ("a or or b", 6, "missing before this"),
        ("a 'b", 3, "no second '"),
        ("(" * 51 + "a" + ")" * 51, 51, "50 parentheses"),
        ("a\0", 2, "UTF-8"),
        ("a\udce4", 2, "UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_column(text: str, column: int, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert f"column {column} of the filter" in str(caught.value)
    assert told in str(caught.value)


def test_a_query_has_an_end() -> None:
    assert parse("a " * (LONGEST // 2))
    with pytest.raises(UsageError, match="at most 1000"):
        parse("a" * (LONGEST + 1))


@given(st.text(max_size=60) | st.text("ab:<>=!\"'()-* \\.", max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    try:
        parse(text)
    except UsageError as error:
        assert "filter" in str(error) and "\n" not in str(error).replace(text, "")


def test_order() -> None:
    assert parse_sort("loss") == Sort(LOSS)
    assert parse_sort("-cfg.optim.lr") == Sort(LR, descending=True)
    with pytest.raises(UsageError, match=r"--sort -lsos: no field 'lsos': did you mean loss\?"):
        parse_sort("-lsos")
