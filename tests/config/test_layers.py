"""Merging: deep for tables, replacing for the rest and where `kind` changes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.config.layers import Layer, flatten, merge

Document = dict[str, Any]

_scalar = st.one_of(
    st.integers(0, 3), st.text("xy", max_size=2), st.lists(st.integers(), max_size=2)
)
_leaves = st.dictionaries(st.sampled_from("abc"), _scalar, max_size=3)
# A key is either always a table or never one: overwriting a table forgets what lay in it.
_documents = st.recursive(
    _leaves,
    lambda inner: st.builds(
        lambda leaves, tables: {**leaves, **tables},
        _leaves,
        st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    ),
    max_leaves=5,
)


def laid(*documents: Document) -> Document:
    return merge(Layer(str(n), document, {}) for n, document in enumerate(documents)).document


@settings(max_examples=60, deadline=None)
@given(_documents, _documents, _documents)
def test_merge_is_associative_and_the_last_layer_wins(
    a: Document, b: Document, c: Document
) -> None:
    assert laid(laid(a, b), c) == laid(a, laid(b, c)) == laid(a, b, c)
    assert laid(a, a) == a == laid(a, {}) == laid({}, a)
    leaves = dict(flatten(laid(a, b)))
    assert all(leaves[path] == value for path, value in flatten(b))


@settings(max_examples=60, deadline=None)
@given(_documents, _documents)
def test_every_leaf_knows_the_layer_it_came_from(a: Document, b: Document) -> None:
    merged = merge([Layer("low", a, {}), Layer("high", b, {})])
    high = dict(flatten(b))
    for path, value in flatten(merged.document):
        assert merged.origin(path) == ("high" if path in high else "low")
        assert value == dict(flatten(b if path in high else a))[path]


def test_merging_changes_none_of_the_layers() -> None:
    low: Document = {"a": {"list": [1]}}
    merged = merge([Layer("low", low, {}), Layer("high", {"a": {"b": 2}}, {})])
    merged.document["a"]["list"].append(2)
    assert low == {"a": {"list": [1]}}


def test_another_kind_replaces_the_table() -> None:
    low = {"optim": {"kind": "adamw", "lr": 1, "inner": {"x": 1}}}
    high = {"optim": {"kind": "sgd", "momentum": 2}}
    merged = merge([Layer("low", low, {}), Layer("high", high, {("optim", "kind"): "high:3"})])
    assert merged.document == {"optim": {"kind": "sgd", "momentum": 2}}
    assert merged.replaced == {("optim",): "high:3"}
    assert merged.origin(("optim", "inner", "x")) is None


def test_the_same_kind_or_none_merges() -> None:
    low = {"optim": {"kind": "adamw", "lr": 1}}
    assert laid(low, {"optim": {"kind": "adamw"}}) == low
    assert laid(low, {"optim": {"eps": 2}}) == {"optim": {"kind": "adamw", "lr": 1, "eps": 2}}
