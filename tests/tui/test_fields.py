"""No field shows what a terminal would obey, however it got in; there are no other fields."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.widgets import Input

import orchestra.tui
from orchestra.tui.clipboard import copy
from orchestra.tui.fields import Field, PaletteField, TextField
from orchestra.wire.terminal import clean, clean_lines
from tests.tui.hostile import ATTACKS, HOSTILE
from tests.tui.loop import driven
from tests.tui.showing import until

OURS = "fields.py"
RAW = {"Input", "TextArea", "MaskedInput", "SuggestFromList"}


class Fields(App[None]):
    def compose(self) -> ComposeResult:
        yield Field(HOSTILE, id="line", placeholder=HOSTILE)
        yield TextField(HOSTILE, id="text", placeholder=HOSTILE)
        yield PaletteField()

    @property
    def text(self) -> str:
        strips = self.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)


def raw_fields(source: str) -> list[str]:
    """Fields of Textual's that this source makes or builds upon."""
    found = []
    for node in ast.walk(ast.parse(source)):
        named = [node.func] if isinstance(node, ast.Call) else []
        named += node.bases if isinstance(node, ast.ClassDef) else []
        found += [each.id for each in named if isinstance(each, ast.Name) and each.id in RAW]
        found += [each.attr for each in named if isinstance(each, ast.Attribute)]
    return [name for name in found if name in RAW]


def test_all_fields_are_ours() -> None:
    sources = Path(orchestra.tui.__path__[0]).rglob("*.py")
    found = {path.name: raw_fields(path.read_text()) for path in sources}
    assert found.pop(OURS)
    assert not any(found.values()), {name: raw for name, raw in found.items() if raw}


@pytest.mark.parametrize(
    "source", ["x = Input()", "yield_(widgets.TextArea('x'))", "class A(Input): ..."]
)
def test_control_a_field_of_textual_is_found(source: str) -> None:
    assert raw_fields(source)


@pytest.mark.parametrize("kind", [Field, PaletteField])
@driven
async def test_a_line(kind: type[Input]) -> None:
    async with Fields().run_test() as pilot:
        field = pilot.app.query_one(kind)
        field.focus()
        await until(pilot, lambda: field.has_focus)
        field.value = HOSTILE
        assert field.value == clean(HOSTILE)
        for attack in ATTACKS:
            field.value = ""
            pilot.app.post_message(events.Paste(attack))
            seen = clean(attack.splitlines()[0])
            await until(pilot, lambda seen=seen: field.value == seen)


@driven
async def test_a_text() -> None:
    async with Fields().run_test() as pilot:
        field = pilot.app.query_one(TextField)
        assert field.text == clean_lines(HOSTILE)
        field.text = f"one\n{HOSTILE}"
        assert field.text == f"one\n{clean_lines(HOSTILE)}"
        field.text = ""
        field.focus()
        await until(pilot, lambda: field.has_focus)
        pilot.app.post_message(events.Paste(f"{HOSTILE}\ntwo"))
        await until(pilot, lambda: field.text == f"{clean_lines(HOSTILE)}\ntwo")


@driven
async def test_the_cursor_is_behind_what_was_pasted() -> None:
    async with Fields().run_test() as pilot:
        field = pilot.app.query_one(Field)
        field.value = "ab"
        field.cursor_position = 1
        pilot.app.post_message(events.Paste("\x1b"))
        await until(pilot, lambda: field.value == "a\\x1bb")
        assert field.cursor_position == len("a\\x1b")


@driven
async def test_what_is_offered() -> None:
    async with Fields().run_test() as pilot:
        field = pilot.app.query_one(Field)
        field.value = ""
        field.suggest([f"xy{HOSTILE}"])
        field.focus()
        await pilot.press("x")
        await until(pilot, lambda: "xy\\x1b]52" in pilot.app.text)  # type: ignore[attr-defined]
        assert "\x1b" not in pilot.app.text  # type: ignore[attr-defined]
        await pilot.press("right")
        assert field.value.startswith("xy") and field.value == clean(field.value)


@driven
async def test_where_a_copy_went_is_told_harmlessly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "\x1b]0;x\x07"))
    async with Fields().run_test() as pilot:
        told = copy(pilot.app, "x")
        assert "\x1b" not in told and "\\x1b]0;x" in told


class Raw(Fields):
    def compose(self) -> ComposeResult:
        yield Input()


@driven
async def test_control_textual_draws_what_is_pasted() -> None:
    async with Raw().run_test() as pilot:
        pilot.app.post_message(events.Paste(ATTACKS[0]))
        await until(pilot, lambda: "\x1b" in pilot.app.text)  # type: ignore[attr-defined]
