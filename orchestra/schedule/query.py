"""The filter language of `orchestra ls QUERY` and of the monitor's `/`: from text to a tree. Pure.

    asr wavlm                   both words, each in the id, name, task, upstream, tags or note
    state:failed -tag:draft     a field and a part of it; `-` or `not`: those that don't
    name:probe-*                with * or ? the whole of it; quotes take everything as it is written
    cfg.optim.lr>1e-4 loss<2    = != < <= > >=; cfg.KEY is the frozen config
    created<2h (gpus=4 or gpus=8) has:note

What a run does not have equals nothing and is neither more nor less; `!=` is the opposite of `=`.
Letters (of ASCII) match in either case, except after `=`. What a tree means in SQL is in
query_sql.py, the fields are in query_fields.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from orchestra.schedule.query_fields import Field, Kind, field_named, seconds, to_number, unknown
from orchestra.wire.errors import UsageError
from orchestra.wire.states import RunState

LONGEST = 1000
"""Characters of a query."""
_DEEPEST = 50
_QUOTES = "'\""
_WORD = re.compile(r"[^\s()<>=:!]+(?:!(?!=)[^\s()<>=:!]*)*|!(?!=)[^\s()<>=:!]*")
_VALUE = re.compile(r"[^\s()]+")
_OPERATOR = re.compile(r"\s*(<=|>=|!=|<|>|==?)\s*|:")
_KEYWORD = re.compile(r"(and|or|not)(?=[\s()]|$)", re.IGNORECASE)
_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Pattern:
    """Part of a text; where it is `wild`, all of it: * is anything, ? one character."""

    text: str
    wild: bool = False


@dataclass(frozen=True)
class Anywhere:
    """A word in what a run is called by."""

    pattern: Pattern


@dataclass(frozen=True)
class Matches:
    """`field:pattern`. `number`: what the pattern says as a number, for values of any type."""

    field: Field
    pattern: Pattern
    number: float | None = None


@dataclass(frozen=True)
class Equals:
    """`field=value`. `number`: the same as a number; None where it is none."""

    field: Field
    text: str
    number: float | None = None


@dataclass(frozen=True)
class Compares:
    """`field < number`; of a time, how long ago it was, in seconds."""

    field: Field
    operator: str
    number: float


@dataclass(frozen=True)
class InStates:
    """`state:...`"""

    states: tuple[RunState, ...]


@dataclass(frozen=True)
class Has:
    """`has:field`: it is known, and not empty; of a yes or no, that it is yes."""

    field: Field


@dataclass(frozen=True)
class Not:
    """The opposite."""

    term: Expression


@dataclass(frozen=True)
class And:
    """All of them; without terms, every run."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True)
class Or:
    """One of them at least."""

    terms: tuple[Expression, ...]


Expression: TypeAlias = Anywhere | Matches | Equals | Compares | InStates | Has | Not | And | Or

EVERYTHING = And(())


@dataclass(frozen=True)
class Sort:
    """What runs are ordered by; those that don't have it come last."""

    field: Field
    descending: bool = False


def parse(text: str) -> Expression:
    """The query as a tree.

    Raises:
        UsageError: it is none; the message tells what is wrong, in which column, and what helps.
    """
    if len(text) > LONGEST:
        raise UsageError(f"the filter has {len(text)} characters: at most {LONGEST}")
    for column, character in enumerate(text, 1):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise UsageError(f"column {column} of the filter is not text in UTF-8")
    return _Parser(text).parse()


def parse_sort(text: str) -> Sort:
    """`FIELD`, or `-FIELD` for the largest, the newest first (UsageError)."""
    name = text.removeprefix("-")
    found = field_named(name)
    if found is None:
        raise UsageError(f"--sort {text}: {unknown(name)}")
    return Sort(found, descending=text.startswith("-"))


def both(*terms: Expression) -> Expression:
    """All of the terms in one."""
    kept = tuple(term for term in terms if term != EVERYTHING)
    return kept[0] if len(kept) == 1 else And(kept)


def depends_on_time(tree: Expression) -> bool:
    """Whether an age is asked for."""
    match tree:
        case And(terms) | Or(terms):
            return any(map(depends_on_time, terms))
        case Not(term):
            return depends_on_time(term)
        case Compares(field):
            return field.kind is Kind.TIME
    return False


class _Parser:
    """Reads one query from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> Expression:
        if not self._text.strip():
            return EVERYTHING
        tree = self._any_of()
        if self._at < len(self._text):
            raise self._error(self._at, "there is no ( for this )")
        return tree

    def _any_of(self) -> Expression:
        terms = [self._all_of()]
        while self._take_keyword("or"):
            terms.append(self._all_of())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _all_of(self) -> Expression:
        terms = [self._term()]
        while self._take_keyword("and") or not self._at_end_of_terms():
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _at_end_of_terms(self) -> bool:
        self._skip_space()
        keyword = _KEYWORD.match(self._text, self._at)
        return self._peek() in ("", ")") or (keyword is not None and keyword[1].lower() == "or")

    def _term(self) -> Expression:
        opposite = False
        while self._take_keyword("not") or self._take_minus():
            opposite = not opposite
        term = self._one()
        return Not(term) if opposite else term

    def _take_minus(self) -> bool:
        """A hyphen right before something; alone it is a word."""
        following = self._text[self._at + 1 : self._at + 2]
        if self._peek() != "-" or not following or following.isspace() or following == ")":
            return False
        self._at += 1
        return True

    def _one(self) -> Expression:
        self._skip_space()
        start = self._at
        if self._peek() == "(":
            return self._parentheses()
        if self._peek() and self._peek() in _QUOTES:
            return Anywhere(Pattern(self._quoted()))
        word = _WORD.match(self._text, start)
        if word is None or _KEYWORD.match(self._text, start):
            raise self._error(start, self._nothing())
        self._at = word.end()
        operator = _OPERATOR.match(self._text, self._at)
        if operator is None:
            return Anywhere(_pattern(word[0]))
        self._at = operator.end()
        sign = (operator[1] or ":").replace("==", "=")
        return self._condition(word[0], start, sign)

    def _nothing(self) -> str:
        """Why no term begins here."""
        if self._peek() in ("", ")"):
            return "a word or a field is missing here"
        if self._peek() in (":", "<", ">", "=", "!"):
            return f"a field must stand before {self._peek()}"
        return "a word or a field is missing before this; quotes look for the text"

    def _parentheses(self) -> Expression:
        start = self._at
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(start, f"more than {_DEEPEST} parentheses within each other")
        self._at += 1
        inside = self._any_of()
        if self._peek() != ")":
            raise self._error(start, "there is no ) for this (")
        self._at += 1
        self._depth -= 1
        return inside

    def _quoted(self) -> str:
        """What stands in quotes; a backslash takes a quote or a backslash as it is."""
        start, quote = self._at, self._peek()
        found = re.compile(rf"{quote}((?:[^{quote}\\]|\\.|\\$)*){quote}", re.DOTALL).match(
            self._text, start
        )
        if found is None:
            raise self._error(start, f"there is no second {quote} for this one")
        self._at = found.end()
        return re.sub(rf"\\([{quote}\\])", r"\1", found[1])

    def _condition(self, name: str, start: int, operator: str) -> Expression:
        at = self._at
        if self._peek() and self._peek() in _QUOTES:
            value, quoted = self._quoted(), True
        else:
            found = _VALUE.match(self._text, at)
            if found is None:
                raise self._error(at, f"a value is missing after {name}{operator}")
            value, quoted = found[0], False
            self._at = found.end()
        if name.lower() == "has" and operator == ":":
            return Has(self._field(value, at))
        field = self._field(name, start)
        try:
            return _CONDITIONS[field.kind](field, operator, value, quoted)
        except UsageError as error:
            raise self._error(at, str(error)) from None

    def _field(self, name: str, start: int) -> Field:
        found = field_named(name)
        if found is None:
            raise self._error(start, f"{unknown(name)}; quote it to look for the text")
        return found

    def _take_keyword(self, word: str) -> bool:
        self._skip_space()
        found = _KEYWORD.match(self._text, self._at)
        if found is None or found[1].lower() != word:
            return False
        self._at = found.end()
        return True

    def _skip_space(self) -> None:
        while self._peek().isspace():
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _error(self, at: int, text: str) -> UsageError:
        return UsageError(f"column {at + 1} of the filter: {text}")


def _pattern(text: str) -> Pattern:
    return Pattern(text, wild="*" in text or "?" in text)


def _number(field: Field, value: str) -> float:
    number = to_number(value)
    if number is None:
        raise UsageError(f"{field.name} is a number, which {value!r} is not")
    return number


def _on_text(field: Field, operator: str, value: str, quoted: bool) -> Expression:
    if operator == ":":
        return Matches(field, Pattern(value) if quoted else _pattern(value))
    if operator in ("=", "!="):
        return _maybe_not(operator, Equals(field, value))
    raise UsageError(f"{field.name} is text: {field.name}:PART, {field.name}=ALL or !=")


#: What the monitor and `ls --json` say of runs at work; no column has it (schedule.board.Doing).
_ON_THE_SCREEN = ("working", "stalled", "orphaned", "elsewhere")


def _on_state(field: Field, operator: str, value: str, quoted: bool) -> Expression:
    if operator not in (":", "=", "!="):
        raise UsageError("state takes : or = or !=")
    names = [state.value for state in RunState]
    if operator == ":":
        pattern = Pattern(value.lower()) if quoted else _pattern(value.lower())
        fits = re.compile(regular_expression(pattern), re.DOTALL)
        states = tuple(state for state in RunState if fits.search(state.value))
    else:
        states = tuple(state for state in RunState if state.value == value)
    if not states and value.lower() in _ON_THE_SCREEN:
        raise UsageError(
            f"only heartbeats tell that a run is {value.lower()}: state:running has those runs"
        )
    if not states:
        raise UsageError(f"no state {value!r}: states are {', '.join(names)}")
    return _maybe_not(operator, InStates(states))


def _on_number(field: Field, operator: str, value: str, quoted: bool) -> Expression:
    number = _number(field, value)
    if operator in (":", "=", "!="):
        return _maybe_not(operator, Equals(field, value, number))
    return Compares(field, operator, number)


def _on_flag(field: Field, operator: str, value: str, quoted: bool) -> Expression:
    flag = _FLAGS.get(value.lower())
    if flag is None or operator not in (":", "=", "!="):
        raise UsageError(f"{field.name} is yes or no: {field.name}:yes")
    return _maybe_not(operator, Equals(field, value, float(flag)))


def _on_time(field: Field, operator: str, value: str, quoted: bool) -> Expression:
    age_s = seconds(value)
    if age_s is None or operator in (":", "=", "!="):
        raise UsageError(
            f"{field.name} is how long ago that was: {field.name}<2h is younger than two hours; "
            "units are s, m, h, d, w"
        )
    return Compares(field, operator, age_s)


def _on_value(field: Field, operator: str, value: str, quoted: bool) -> Expression:
    """Of the config: whatever type it has."""
    flag = None if quoted else {"true": 1.0, "false": 0.0}.get(value)
    number = None if quoted else to_number(value) if flag is None else flag
    if operator == ":":
        return Matches(field, Pattern(value) if quoted else _pattern(value), number)
    if operator in ("=", "!="):
        return _maybe_not(operator, Equals(field, value, number))
    if number is None:
        raise UsageError(f"{value!r} is no number, so that {field.name} can't be more or less")
    return Compares(field, operator, number)


_CONDITIONS: dict[Kind, Callable[[Field, str, str, bool], Expression]] = {
    Kind.TEXT: _on_text,
    Kind.TAGS: _on_text,
    Kind.STATE: _on_state,
    Kind.NUMBER: _on_number,
    Kind.FLAG: _on_flag,
    Kind.TIME: _on_time,
    Kind.VALUE: _on_value,
}


def _maybe_not(operator: str, term: Expression) -> Expression:
    return Not(term) if operator == "!=" else term


def regular_expression(pattern: Pattern) -> str:
    """The pattern for `re.search` with DOTALL."""
    if not pattern.wild:
        return re.escape(pattern.text)
    wild = {"*": ".*", "?": "."}
    return rf"\A{''.join(wild.get(c) or re.escape(c) for c in pattern.text)}\Z"
