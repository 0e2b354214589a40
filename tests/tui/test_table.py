"""Rows that scroll: what is in sight, where the cursor stands."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import App, ComposeResult

from orchestra.tui.table import Lines, aligned, wrapped
from orchestra.tui.text import safe
from tests.tui.showing import driven, until

HEIGHT = 5


class Table(App[None]):
    def compose(self) -> ComposeResult:
        yield Lines(id="rows")

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.chosen: list[Any] = []

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        self.chosen.append(event.target)

    @property
    def rows(self) -> Lines:
        return self.query_one(Lines)

    @property
    def text(self) -> list[str]:
        strips = self.screen._compositor.render_strips()
        return [(strip.text.split() or [""])[0] for strip in strips]  # without the scrollbar


def rows(count: int, letter: str = "r") -> list[Any]:
    return [safe(f"{letter}{number}") for number in range(count)]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    lines = aligned(["key", "n", "last"], [[safe("日本"), safe("7"), safe("x")]], right=(1,))
    assert [line.plain for line in lines] == ["key   n  last", "日本  7  x"]


def test_a_sentence_is_wrapped_and_harmless() -> None:
    assert [line.plain for line in wrapped("one two\x1b[2J three", 12)] == [
        "one",
        "two\\x1b[2J",
        "three",
    ]
    assert len(wrapped("", 12)) == 1


@driven
async def test_a_header_stays_in_sight() -> None:
    app = Table()
    async with app.run_test(size=(20, HEIGHT)) as pilot:
        app.rows.replace(rows(20), pinned=1)
        await pilot.press("end")
        await until(pilot, lambda: app.text == ["r0", "r16", "r17", "r18", "r19"])


@pytest.mark.parametrize(
    ("keys", "target"),
    [
        (["down"], 0),
        (["down", "down"], 2),
        (["down", "end"], 19),
        (["down", "end", "up"], 17),
        (["down", "pagedown"], 4),
        (["end", "home"], 0),
        (["G", "g", "j", "k"], 0),
    ],
)
@driven
async def test_the_cursor_stands_on_what_can_be_chosen(keys: list[str], target: int) -> None:
    app = Table()
    async with app.run_test(size=(20, HEIGHT)) as pilot:
        targets = [row if row in (0, 2, 4, 17, 19) else None for row in range(20)]
        app.rows.replace(rows(20), targets)
        await pilot.press(*keys)
        assert app.rows.target == target
        await until(pilot, lambda: f"r{target}" in app.text)  # it is in sight
        app.rows.press()
        await until(pilot, lambda: app.chosen == [target])


@driven
async def test_the_cursor_stays_with_its_target() -> None:
    app = Table()
    async with app.run_test(size=(20, HEIGHT)) as pilot:
        app.rows.replace(rows(3), ["a", "b", "c"])
        app.rows.choose("b")
        app.rows.replace(rows(4), ["new", "a", "b", "c"])
        assert app.rows.target == "b"
        app.rows.replace(rows(1), ["a"])
        assert app.rows.target is None
        await pilot.press("down", "up")
        assert app.rows.target == "a"


@driven
async def test_keys_do_nothing_where_there_is_nothing() -> None:
    app = Table()
    async with app.run_test(size=(20, HEIGHT)) as pilot:
        await pilot.press("down", "up", "end", "home", "pagedown", "pageup", "right", "left")
        app.rows.replace(rows(2), [None, None])
        await pilot.press("down", "up", "end", "home", "pagedown", "pageup", "right", "left")
        assert app.rows.target is None
