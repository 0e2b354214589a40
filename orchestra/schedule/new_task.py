"""A new task from the template: its code, a preset, a test, and a tiny corpus to run it on.

Nothing that exists is overwritten; what is hidden by the new name is said.
"""

from __future__ import annotations

import contextlib
import json
import keyword
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestra.config.presets import list_presets
from orchestra.tasks import discover
from orchestra.wire.builtin import package_folder
from orchestra.wire.errors import ConflictError, OrchestraError, UsageError
from orchestra.workspace import Workspace

_PLACEHOLDER = "newtask"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class NewTask:
    """What was made."""

    name: str
    files: list[Path]
    corpus: Path
    notes: list[str]
    """Sentences to say aloud."""


def new_task(workspace: Workspace, name: str) -> NewTask:
    """Make the task `name`, its preset and its test in the workspace, and its tiny corpus.

    Raises:
        UsageError: it can't be a name of a task.
        ConflictError: something of that name is there.
        OrchestraError: a file can't be written, or the corpus not be made.
    """
    root = workspace.root
    notes = _require_free_name(root, name)
    corpus = root / "data" / name
    texts = _rendered(root, name)
    for path in (root / "tasks" / name, corpus, *texts):
        if os.path.lexists(path):
            raise ConflictError(f"{path} exists: name another task, or move it away")
    _require_free_corpus(root, name)
    _write(texts)
    for program in ("synth", "prepare"):
        done = _data(program, root, name, "--root", os.fspath(corpus))
        if done.returncode != 0:
            raise OrchestraError(
                f"the task is made, but not its tiny corpus: {_last_words(done)}; try `orchestra "
                f"data {program} {name} --root {corpus}`"
            )
    return NewTask(name, list(texts), corpus, notes)


def _require_free_name(root: Path, name: str) -> list[str]:
    """What the new name hides (UsageError, ConflictError: it can't be had)."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(
            f"{name!r} can't be a task's name: small letters, digits and _, a letter first, and no "
            f"word of Python's{_suggested(name)}"
        )
    notes = []
    for task in discover(root).values():
        if task.name.lower().replace("-", "_") == name and not task.builtin:
            raise ConflictError(f"there is a task {task.name!r} in {task.folder}")
        if task.name == name:
            notes.append(f"it hides the built-in task {name!r} in this workspace")
        elif name in task.aliases():
            notes.append(f"{name!r} meant the task {task.name!r} here, and now means the new one")
    if any(preset.name == name and preset.builtin for preset in list_presets(root)):
        notes.append(f"it hides the built-in preset {name!r} in this workspace")
    return notes


def _suggested(name: str) -> str:
    """What could be meant by a name that can't be had."""
    near = re.sub(r"[\W_]+", "_", name.lower(), flags=re.ASCII).strip("_")
    near = f"{near}_task" if keyword.iskeyword(near) else near
    return f"; {near!r} can" if _NAME.fullmatch(near) else ""


def _require_free_corpus(root: Path, name: str) -> None:
    """UsageError: another task's corpus, or one of orchestra's own, would be found in its place."""
    done = _data("corpora", root)
    if done.returncode != 0:
        raise OrchestraError(f"the corpora can't be listed: {_last_words(done)}")
    for corpus in json.loads(done.stdout)["corpora"]:
        # A task of the same name is hidden by the new one, and its corpora with it.
        if corpus["name"] == name and corpus["task"] != name:
            whose = f"of task {corpus['task']!r}" if corpus["task"] else "that orchestra reads"
            raise UsageError(f"{name!r} is the name of a corpus {whose}; name the task otherwise")


def _rendered(root: Path, name: str) -> dict[Path, str]:
    """The text of each file to be made."""
    templates = package_folder() / "templates"
    sources = {
        root / "tasks" / name / path.name: path
        for path in sorted((templates / "task").iterdir())
        if path.is_file()
    }
    sources[root / "presets" / f"{name}.toml"] = templates / "preset.toml"
    sources[root / "tests" / "tasks" / f"test_{name}.py"] = templates / "test_task.py"
    return {
        path: source.read_text(encoding="utf-8").replace(_PLACEHOLDER, name)
        for path, source in sources.items()
    }


def _write(texts: dict[Path, str]) -> None:
    """All files, or none of them."""
    made: list[Path] = []
    try:
        for path, text in texts.items():
            made += [folder for folder in reversed(path.parents) if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                made.append(path)
                file.write(text)
    except OSError as error:
        for path in reversed(made):
            with contextlib.suppress(OSError):  # a folder that could not be made, or that has more
                path.rmdir() if path.is_dir() else path.unlink()
        raise OrchestraError(f"cannot write {error.filename}: {error.strerror}") from error


def _data(program: str, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`orchestra data PROGRAM` in the workspace `root`."""
    return subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            f"orchestra.data.{program}",
            *words,
            "--code",
            os.fspath(root),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
