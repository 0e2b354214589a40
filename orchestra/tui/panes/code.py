"""Where a run's code comes from: commit, branch, what was not committed, packages, hardware."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.content import Content

from orchestra.tui.panes.run_pane import RunPane
from orchestra.tui.text import join, safe
from orchestra.wire.files import read_json

_MOST_LINES = 5000
_COLOURS = {"+": "$success", "-": "$error", "@": "$accent"}


@dataclass(frozen=True)
class _Code:
    """`patch`: its first lines; `cut`: how many more there are."""

    provenance: dict[str, Any]
    patch: tuple[str, ...]
    cut: int


class CodePane(RunPane):
    """provenance.json and patch.diff of the run folder."""

    key: ClassVar[str] = "code"
    title: ClassVar[str] = "code"
    every_s: ClassVar[float] = 60.0

    def look(self, run_id: str) -> _Code:
        run = self.workspace.runs.run(run_id)
        provenance = read_json(run.provenance)
        try:
            patch = run.patch.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            patch = []
        return _Code(provenance, tuple(patch[:_MOST_LINES]), max(0, len(patch) - _MOST_LINES))

    def draw(self, found: _Code) -> None:
        self.put([*_facts(found.provenance), *_patch(found)])


def _facts(provenance: dict[str, Any]) -> Iterator[Content]:
    for name in ("commit", "branch", "dirty", "tree", "code"):
        yield _fact(name, provenance.get(name))
    environment = provenance.get("environment")
    for name, value in sorted(environment.items() if isinstance(environment, dict) else ()):
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in sorted(value.items()))
        yield _fact(str(name), value)


def _fact(name: str, value: Any) -> Content:
    shown = "-" if value in (None, "") else str(value)
    return join(safe(f"{name:<10}", "$text-muted"), safe(shown), between=" ")


def _patch(found: _Code) -> Iterator[Content]:
    yield safe("")
    if not found.patch:
        dirty = found.provenance.get("dirty")
        text = "patch.diff is missing." if dirty else "All of it was committed."
        yield safe(text, "$text-muted")
        return
    yield safe("Not committed when it was started:", "bold")
    for line in found.patch:
        yield safe(line, _COLOURS.get(line[:1], ""))
    if found.cut:
        yield safe(f"... and {found.cut} more lines in patch.diff", "$text-muted")
