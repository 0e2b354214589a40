"""The layout comes back, and a bad file costs nothing but the layout."""

from __future__ import annotations

import pytest

from orchestra.tui.memory import Layout, layout_path, load_layout, save_layout
from orchestra.workspace import Workspace, init_workspace

LEFT = Layout("state:failed", "-best", ("name", "step"), "log", "orchestra-light")


def test_what_was_left_comes_back_to_its_workspace_alone(workspace: Workspace) -> None:
    save_layout(workspace, LEFT)
    assert load_layout(workspace) == LEFT
    assert load_layout(init_workspace(workspace.root.parent / "other")) == Layout()
    assert not any(workspace.runs.path.rglob("*"))  # looking leaves no traces


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"version": 99}', '{"version": 1}'])
def test_a_file_that_cannot_be_read_is_as_good_as_none(workspace: Workspace, damage: str) -> None:
    save_layout(workspace, LEFT)
    layout_path(workspace).write_text(damage)
    assert load_layout(workspace) == Layout()
