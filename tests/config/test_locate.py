"""Lines of keys, in every form that TOML has for a key."""

from __future__ import annotations

import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.config.layers import flatten
from orchestra.config.locate import line_numbers

TEXT = '''\
# [not.a.table]
top = 1
a.b.c = "x = 1 # no comment"
"quoted.key".'x y' = """
[not.a.table]
key = 3 \\"""
""""
raw = \'\'\'
k = 1\'\'\'

[table] # comment
when = 1979-05-27 07:32:00
list = [ 1, # one
  "]",
  { inner = 2,
    other = 3, },
]
inline = { p.q = 1, r = {
  s = [ [], [1] ] } }
[table.sub . "deep er"]
x = 1
[[rows]]
n = 1
  [rows.part]
  m = 1
[[rows]]
n = 2
  [[rows.parts]]
  o = 1
  [[rows.parts]]
  o = 2
'''


def test_every_form_of_key() -> None:
    tomli.loads(TEXT)
    lines = line_numbers(TEXT)
    expected = {
        ("top",): 2,
        ("a",): 3,
        ("a", "b", "c"): 3,
        ("quoted.key", "x y"): 4,
        ("raw",): 8,
        ("table",): 11,
        ("table", "when"): 12,
        ("table", "list"): 13,
        ("table", "list", 0): 13,
        ("table", "list", 1): 14,
        ("table", "list", 2, "inner"): 15,
        ("table", "list", 2, "other"): 16,
        ("table", "inline", "p", "q"): 18,
        ("table", "inline", "r", "s"): 19,
        ("table", "sub", "deep er"): 20,
        ("table", "sub", "deep er", "x"): 21,
        ("rows", 0): 22,
        ("rows", 0, "n"): 23,
        ("rows", 0, "part", "m"): 25,
        ("rows", 1, "n"): 27,
        ("rows", 1, "parts", 0, "o"): 29,
        ("rows", 1, "parts", 1, "o"): 31,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("not",) not in lines


def test_line_ends_of_other_systems() -> None:
    assert line_numbers("a = 1\r\n[b]\r\nc = 2\r\n")[("b", "c")] == 3


_name = st.text("ab.\"' é", min_size=1, max_size=3)
_value = st.one_of(
    st.integers(-9, 9),
    st.booleans(),
    st.text("x\"'\\\n#]}= ", max_size=6),
    st.lists(st.text('a,]"', max_size=3), max_size=3),
)
_document = st.dictionaries(
    _name, st.one_of(_value, st.dictionaries(_name, _value, max_size=3)), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(_document, st.booleans())
def test_knows_every_leaf_of_any_document(document: dict[str, object], multiline: bool) -> None:
    import tomli_w

    text = tomli_w.dumps(document, multiline_strings=multiline)
    lines = line_numbers(text)
    rows = text.split("\n")
    for path, _ in flatten(tomli.loads(text)):
        # The line must begin with the last part of the key, as TOML writes it.
        key = tomli_w.dumps({str(path[-1]): 0}).removesuffix(" = 0\n")
        assert rows[lines[path] - 1].startswith(f"{key} =")
