"""Presets by name: the workspace's own and the built-in ones they don't shadow. Reads no TOML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestra.config.problems import nearest
from orchestra.tasks import builtin_folder
from orchestra.wire.errors import UsageError


@dataclass(frozen=True)
class PresetInfo:
    """A preset found on disk."""

    name: str
    path: Path
    """Absolute."""
    builtin: bool
    description: str
    """The file's first comment line."""
    shadows: Path | None = None
    """The built-in preset that this workspace preset hides."""


def list_presets(workspace: Path) -> list[PresetInfo]:
    """All presets, by name."""
    builtin = {path.stem: path for path in _files(builtin_folder() / "presets")}
    found = {name: PresetInfo(name, path, True, _describe(path)) for name, path in builtin.items()}
    own = workspace / "presets"
    if own.resolve() != (builtin_folder() / "presets").resolve():
        for path in _files(own):
            name = path.stem
            found[name] = PresetInfo(name, path, False, _describe(path), builtin.get(name))
    return [found[name] for name in sorted(found)]


def find_preset(name_or_path: str, workspace: Path) -> PresetInfo:
    """The preset of that name, or the file (from the current folder, then from the workspace).

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if is_path(name_or_path):
        for base in (Path.cwd(), workspace):
            path = (base / Path(name_or_path).expanduser()).resolve()
            if path.is_file():
                return PresetInfo(path.stem, path, False, _describe(path))
            if path.is_dir():
                raise UsageError(f"{name_or_path!r} is a folder: give a preset's name or TOML file")
        raise UsageError(f"no file {name_or_path!r}")
    presets = {preset.name: preset for preset in list_presets(workspace)}
    if name_or_path in presets:
        return presets[name_or_path]
    raise UsageError(f"no preset {name_or_path!r}: {nearest(name_or_path, presets)}")


def is_path(name_or_path: str) -> bool:
    """Whether a preset is named by its file rather than by its name."""
    return name_or_path.endswith(".toml") or "/" in name_or_path


def _files(folder: Path) -> list[Path]:
    return sorted(path.absolute() for path in folder.glob("*.toml")) if folder.is_dir() else []


def _describe(path: Path) -> str:
    """The first line, if it is a comment."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
    except OSError:
        return ""
    return first.lstrip("#").strip() if first.startswith("#") and first[1:2] != ":" else ""
