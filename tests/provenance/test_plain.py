from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestra.provenance.client import Snapshot, drop_refs, start_snapshot
from orchestra.provenance.plain import digest, read_package, read_workspace
from orchestra.wire.errors import UsageError
from orchestra.workspace import init_workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    init_workspace(tmp_path / "lab")
    (tmp_path / "lab" / "tasks" / "mine.py").write_text("x = 1\n")
    return tmp_path / "lab"


def snapshot(root: Path) -> Snapshot:
    return start_snapshot(root, root / "runs", "run1", root.parent / "p.diff").result()


def test_without_git_files_are_hashed_and_laid_out(root: Path) -> None:
    first = snapshot(root)
    assert (first.commit, first.branch, first.dirty, first.repository) == (None, None, None, None)
    assert "not in a git repository" in first.warnings[0]
    assert (first.code / "tasks" / "mine.py").read_text() == "x = 1\n"
    assert snapshot(root).tree == first.tree
    (root / "tasks" / "mine.py").write_text("x = 2\n")
    assert snapshot(root).tree != first.tree
    assert (first.code / "tasks" / "mine.py").read_text() == "x = 1\n"
    drop_refs(root, "run1")  # nothing to forget


def test_the_installed_package_goes_along(root: Path) -> None:
    code = snapshot(root).code
    assert (code / "orchestra" / "tasks.py").is_file()
    assert (code / "orchestra" / "wire" / "folders.py").is_file()
    assert (code / "orchestra" / "_builtin" / "tasks").is_dir()
    assert not list(code.rglob("__pycache__"))
    assert code.name != snapshot(root).tree  # the name tells which package


def test_a_folder_that_would_hide_the_package_is_refused(root: Path) -> None:
    (root / "orchestra").mkdir()
    (root / "orchestra" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="rename that folder"):
        snapshot(root)


def test_what_is_left_out(root: Path) -> None:
    for path in ("runs/r1/a", ".venv/b", ".hidden", "lib/__pycache__/c.pyc", "lib/.d"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    os.truncate(os.open(root / "big.bin", os.O_CREAT | os.O_WRONLY), 6_000_000)
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("tasks")
    files, big = read_workspace(root, root / "runs")
    assert set(files) == {"tasks/mine.py", "link"}
    assert big == ["big.bin"]
    assert "big.bin" in snapshot(root).warnings[1]


def test_runs_are_no_code_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    for name in ("runs", "old"):
        (root / name / "r1").mkdir(parents=True, exist_ok=True)
        (root / name / "r1" / "run.json").write_text("{}")
    (root / "old" / ".gitignore").write_text("*\n")
    (root / "tasks" / ".gitignore").write_text("*.pyc\n")
    assert set(read_workspace(root, tmp_path / "elsewhere")[0]) == {"tasks/mine.py"}


def test_too_much_in_all_is_refused(root: Path) -> None:
    for number in range(11):
        (root / f"part{number}.bin").touch()
        os.truncate(root / f"part{number}.bin", 4_900_000)
    with pytest.raises(UsageError, match=r"54 MB are too much.*\.gitignore"):
        snapshot(root)


def test_the_hash_tells_content_path_mode_and_links(root: Path) -> None:
    def now() -> str:
        return digest(read_workspace(root, root / "runs")[0])

    file = root / "tasks" / "mine.py"
    seen = [now()]
    file.chmod(0o755)
    seen.append(now())
    file.rename(root / "tasks" / "other.py")
    seen.append(now())
    file.symlink_to("other.py")
    seen.append(now())
    file.unlink()
    file.write_text("other.py")
    seen.append(now())
    assert len(set(seen)) == len(seen)


def test_the_package_is_whole() -> None:
    files = read_package()
    assert {"orchestra/__init__.py", "orchestra/tasks.py"} <= set(files)
    assert not [path for path in files if "__pycache__" in path]
