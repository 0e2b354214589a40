"""Code that no git repository holds, as bytes: the workspace without git, the installed package.

Read once into memory, so that what is hashed is what is laid out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestra.provenance.limits import MAX_FILE_BYTES, check_sizes
from orchestra.wire.builtin import BUILTIN, builtin_folder, package_folder
from orchestra.wire.errors import OrchestraError

_SKIPPED = {"__pycache__", "node_modules"}


@dataclass(frozen=True)
class File:
    """A file, or (with `is_link`) a symbolic link whose target is `data`."""

    data: bytes
    executable: bool = False
    is_link: bool = False


Files = dict[str, File]
"""By path relative to the folder they are laid out in."""


def read_workspace(root: Path, runs: Path) -> tuple[Files, list[str]]:
    """All files but hidden ones, runs, and folders whose .gitignore is `*`.

    Those over the size limit are left out and named.

    Raises:
        UsageError: together they are too big.
        OrchestraError: one can't be read.
    """
    paths = list(_walk(root, {runs.resolve(), root / "runs"}))
    sizes = {path: os.lstat(root / path).st_size for path in paths}
    big = sorted(path for path, size in sizes.items() if size > MAX_FILE_BYTES)
    small = {path: size for path, size in sizes.items() if size <= MAX_FILE_BYTES}
    check_sizes(small.items(), "workspace", "move data out of it, or use git and a .gitignore")
    return {path: _read(root / path) for path in small}, big


def read_package() -> Files:
    """The running orchestra, built-in tasks and presets included, under `orchestra/`."""
    package = package_folder()
    files = {
        f"orchestra/{path}": _read(package / path) for path in _walk(package, {package / BUILTIN})
    }
    for part in ("tasks", "presets"):
        folder = builtin_folder() / part
        for path in _walk(folder):
            files[f"orchestra/{BUILTIN}/{part}/{path}"] = _read(folder / path)
    return files


def digest(files: Files) -> str:
    """SHA-256 over paths, modes and contents (hex)."""
    total = hashlib.sha256()
    for path in sorted(files):
        file = files[path]
        mode = "link" if file.is_link else "exec" if file.executable else "file"
        total.update(f"{mode} {len(file.data)} ".encode() + os.fsencode(path) + b"\0" + file.data)
    return total.hexdigest()


def write(files: Files, folder: Path) -> None:
    """Lay the files out below `folder`."""
    for name, file in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.is_link:
            path.symlink_to(os.fsdecode(file.data))
            continue
        path.write_bytes(file.data)
        if file.executable:
            path.chmod(0o755)


def _walk(root: Path, without: Collection[Path] = ()) -> Iterator[str]:
    """Relative paths of files and links, hidden and derived ones left out."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not (name.startswith(".") or name in _SKIPPED or here / name in without)
            and not _is_ignored(here / name)
        )
        links = [name for name in folders if (here / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = here / name
            if not name.startswith(".") and (path.is_symlink() or path.is_file()):
                yield os.fspath(path.relative_to(root))


def _is_ignored(folder: Path) -> bool:
    """Whether the folder asks to be left out, as runs folders do: its .gitignore is `*`."""
    try:
        return (folder / ".gitignore").read_text(errors="replace").split() == ["*"]
    except OSError:
        return False


def _read(path: Path) -> File:
    try:
        if path.is_symlink():
            return File(os.fsencode(path.readlink()), is_link=True)
        return File(path.read_bytes(), executable=os.access(path, os.X_OK))
    except OSError as error:
        raise OrchestraError(
            f"cannot read {path} for the code snapshot: {error.strerror}"
        ) from error
