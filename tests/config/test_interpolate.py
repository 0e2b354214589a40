"""References: whole values keep their type, text embeds, every hop of an error is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.config.interpolate import escape, interpolate


def resolve(document: dict[str, Any], defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    done, problems = interpolate(document, defaults or {}, lambda path: "here")
    assert problems == []
    return done


def complaint(document: dict[str, Any]) -> str:
    done, problems = interpolate(document, {}, lambda path: "here")
    (problem,) = problems
    assert problem.key not in done, "a key that can't be resolved is left out"
    return str(problem)


@pytest.mark.parametrize("value", [3, 1e-5, True, "text", [1, 2], {"x": {"y": 1}}])
def test_a_whole_value_keeps_its_type(value: Any) -> None:
    assert resolve({"a": "${b.c}", "b": {"c": value}})["a"] == value


def test_embedded_values_become_text() -> None:
    document = {"n": 3, "f": 0.5, "t": True, "s": "x", "a": "${n}/${f}/${t}-${s}", "l": ["${a}", 1]}
    assert resolve(document)["a"] == "3/0.5/true-x"
    assert resolve(document)["l"] == ["3/0.5/true-x", 1]


def test_references_chain_and_fall_back_to_defaults() -> None:
    assert resolve({"a": "${b}", "b": "${c.d}"}, {"c": {"d": 7}}) == {"a": 7, "b": 7}
    assert resolve({"a": "${b}", "b": 1}, {"b": 2})["a"] == 1


def test_escape() -> None:
    assert resolve({"a": "$${b} costs $5 {x}"}) == {"a": "${b} costs $5 {x}"}


def test_unknown_name_names_every_hop() -> None:
    done, problems = interpolate({"a": "${b}", "b": "x${c.d}"}, {}, lambda path: "here")
    assert done == {}
    assert [str(problem) for problem in problems] == [
        "here: a: no value for ${c.d}: a -> b -> c.d",
        "here: b: no value for ${c.d}: b -> c.d",
    ]


def test_unknown_names_are_no_problem_while_a_file_is_missing() -> None:
    done, problems = interpolate({"a": "${b}"}, {}, lambda path: "", complete=False)
    assert (done, problems) == ({}, [])


def test_cycles_name_every_hop() -> None:
    assert "a -> a" in complaint({"a": "${a}"})
    assert "t.x -> t -> t.x" in complaint({"t": {"x": "${t}"}})
    _, problems = interpolate({"a": "${b}", "b": "1${c}", "c": "${a}"}, {}, lambda path: "")
    assert "a -> b -> c -> a" in str(problems[0])


@pytest.mark.parametrize("text", ["${", "${}", "${a b}", "x${a.}", "${.a}"])
def test_what_is_no_reference(text: str) -> None:
    assert "is not a reference" in complaint({"k": text, "a": 1})


def test_tables_and_lists_do_not_stand_within_text() -> None:
    assert "a list" in complaint({"k": "x${l}", "l": [1]})
    assert "a table" in complaint({"k": "x${t}", "t": {"u": 1}})


_json = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text("a${}.", max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), _json, max_size=3))
def test_escaped_documents_come_back_unchanged(document: dict[str, Any]) -> None:
    assert resolve(escape(document)) == document
