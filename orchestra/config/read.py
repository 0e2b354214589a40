"""Preset files and what they extend, as layers; every file that can't be read is a problem.

Order is depth first: what a file extends lies below it, entries left to right. A file that several
others extend is laid once, where it is first named; so a shared base never undoes their changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli

from orchestra.config.layers import Layer
from orchestra.config.locate import line_numbers
from orchestra.config.presets import PresetInfo, find_preset, is_path
from orchestra.config.problems import KeyPath, Problem, shown
from orchestra.config.upstream_names import expand_upstream
from orchestra.wire.errors import UsageError


class PresetReader:
    """Reads the presets of one composition."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._laid: set[Path] = set()
        self.problems: list[Problem] = []

    def read(self, preset: PresetInfo) -> list[Layer]:
        """The layers of a preset named by the user, lowest first."""
        return self._read(preset, ())

    def _read(self, preset: PresetInfo, chain: tuple[Path, ...]) -> list[Layer]:
        path = preset.path
        self._laid.add(path.resolve())
        name = shown(path, self._workspace)
        loaded = self._load(path, name)
        if loaded is None:
            return []
        document, lines = loaded
        places = {key: f"{name}:{line}" for key, line in lines.items()}
        layers: list[Layer] = []
        entries = document.pop("extends", [])
        for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
            place = places.get(("extends", number), places.get(("extends",), name))
            base = self._base(entry, preset, (*chain, path), place)
            if base is not None:
                layers += self._read(base, (*chain, path))
        return [*layers, Layer(name, with_upstream(document, places), places)]

    def _load(self, path: Path, name: str) -> tuple[dict[str, Any], dict[KeyPath, int]] | None:
        """The document and the lines of its keys, or None and a problem."""
        try:
            text = path.read_text(encoding="utf-8")
            return tomli.loads(text), line_numbers(text)
        except tomli.TOMLDecodeError as error:
            text = f"not TOML: {error.msg} (column {error.colno})"
            self.problems.append(Problem("", f"{name}:{error.lineno}", text))
        except UnicodeDecodeError as error:
            self.problems.append(Problem("", name, f"not UTF-8 at byte {error.start}"))
        except OSError as error:
            self.problems.append(Problem("", name, f"can't be read: {error.strerror}"))
        return None

    def _base(
        self, entry: Any, preset: PresetInfo, chain: tuple[Path, ...], place: str
    ) -> PresetInfo | None:
        """What one `extends` entry names; None if it is laid already or wrong."""
        if not isinstance(entry, str):
            self.problems.append(
                Problem("extends", place, f"must be text or a list of texts, not {entry!r}")
            )
            return None
        try:
            base = self._find(entry, preset)
        except UsageError as error:
            self.problems.append(Problem("extends", place, str(error)))
            return None
        resolved = base.path.resolve()
        ancestors = [path.resolve() for path in chain]
        if resolved in ancestors:
            circle = [*chain[ancestors.index(resolved) :], base.path]
            names = " -> ".join(shown(path, self._workspace) for path in circle)
            self.problems.append(Problem("extends", place, f"the files go round: {names}"))
            return None
        return None if resolved in self._laid else base

    def _find(self, entry: str, preset: PresetInfo) -> PresetInfo:
        """A file is relative to the one that extends it; its own name means what it shadows."""
        if is_path(entry):
            path = (preset.path.parent / Path(entry).expanduser()).resolve()
            if not path.is_file():
                raise UsageError(f"no file {shown(path, self._workspace)!r}")
            return PresetInfo(path.stem, path, False, "")
        base = find_preset(entry, self._workspace)
        if base.path == preset.path and preset.shadows is not None:
            return PresetInfo(base.name, preset.shadows, True, "")
        return base


def with_upstream(document: dict[str, Any], places: dict[KeyPath, str]) -> dict[str, Any]:
    """`document` with its upstream table expanded; implied keys get the place of what implied them.

    `places` is extended.
    """
    table = document.get("upstream")
    if not isinstance(table, dict):
        return document
    expanded = expand_upstream(table)
    stated = ("upstream", "name" if "name" in table else "source")
    for key in expanded.keys() - table.keys():
        places[("upstream", key)] = places.get(stated, "")
    return {**document, "upstream": expanded}
