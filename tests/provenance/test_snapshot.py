"""What is recorded is what runs; what is the user's stays as it was. Real repositories."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from orchestra.provenance.client import Snapshot, drop_refs, start_snapshot
from orchestra.wire.errors import OrchestraError, UsageError
from tests.provenance.conftest import Lab, make_lab


def laid_out(snapshot: Snapshot) -> dict[str, bytes]:
    """Files of the code folder."""
    return {
        str(path.relative_to(snapshot.code)): path.read_bytes()
        for path in snapshot.code.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def users_things(lab: Lab) -> dict[str, object]:
    index = lab.top / ".git" / "index"
    return {
        "index": hashlib.sha256(index.read_bytes()).hexdigest() if index.exists() else None,
        "status": lab.git("--no-optional-locks", "status", "--porcelain=v2", "--branch"),
        "heads": lab.git("for-each-ref", "refs/heads", "refs/stash", "refs/tags"),
        "stash": lab.git("stash", "list"),
        "HEAD": (lab.top / ".git" / "HEAD").read_text(),
    }


def test_a_clean_tree_is_that_of_its_commit(any_lab: Lab) -> None:
    lab = any_lab
    commit = lab.git("rev-parse", "HEAD")
    snapshot = lab.snapshot()
    assert (snapshot.commit, snapshot.branch, snapshot.dirty) == (commit, "main", False)
    prefix = "" if lab.root == lab.top else "speech/lab"
    assert snapshot.prefix == prefix
    assert snapshot.tree == lab.git("rev-parse", f"HEAD:{prefix}")
    assert (snapshot.patch_bytes, snapshot.warnings) == (0, ())
    files = laid_out(snapshot)
    assert files["tasks/mine/config.py"] == b"version = 1\n"
    assert ("elsewhere.txt" in files) == (prefix == "")


def test_changed_staged_untracked_and_deleted_files_are_as_on_disk(any_lab: Lab) -> None:
    lab = any_lab
    lab.write("kept.py")
    lab.write("gone.py")
    lab.write("staged.py", "old\n")
    lab.commit()
    lab.write("tasks/mine/config.py", "version = 2\n")
    lab.write("staged.py", "staged\n")
    lab.git("add", "-A")
    lab.write("staged.py", "staged, then changed\n")
    lab.write("new folder/ün tracked\n.py", "new\n")
    (lab.root / "gone.py").unlink()
    lab.write(".gitignore", "/runs/\nignored.py\n")
    lab.write("ignored.py")
    snapshot = lab.snapshot()
    files = laid_out(snapshot)
    assert snapshot.dirty
    assert files["tasks/mine/config.py"] == b"version = 2\n"
    assert files["staged.py"] == b"staged, then changed\n"
    assert files["new folder/ün tracked\n.py"] == b"new\n"
    assert "kept.py" in files
    assert not {"gone.py", "ignored.py"} & set(files)


def test_nothing_of_the_user_moves(any_lab: Lab) -> None:
    lab = any_lab
    lab.write("a.py", "1\n")
    lab.git("stash", "-u")
    lab.write("b.py", "1\n")
    lab.git("add", "-A")
    lab.write("b.py", "2\n")
    lab.write("c.py", "3\n")
    lab.git("add", "--intent-to-add", "-A")
    # Same content, new times: a plain `git status` would write the index anew.
    os.utime(lab.root / "tasks/mine/config.py", (1, 1))
    index = (lab.top / ".git" / "index").read_bytes()
    snapshot = lab.snapshot()
    assert (lab.top / ".git" / "index").read_bytes() == index
    before = users_things(lab)
    lab.snapshot("run2")
    assert users_things(lab) == before
    assert laid_out(snapshot)["c.py"] == b"3\n"


def test_control_a_snapshot_in_the_users_index_would_be_seen(lab: Lab) -> None:
    lab.write("b.py")
    before = users_things(lab)
    lab.git("add", "-A")
    assert users_things(lab) != before


def test_the_patch_makes_the_tree_from_the_commit(any_lab: Lab, tmp_path: Path) -> None:
    lab = any_lab
    lab.write("data.bin", bytes(range(256)))
    lab.write("old name.py", "a\nb\nc\n")
    lab.commit()
    # Settings that would spoil a patch made for people.
    for name, value in (("diff.noprefix", "true"), ("color.ui", "always"), ("core.quotePath", "0")):
        lab.git("config", name, value)
    lab.write("data.bin", bytes(range(255, -1, -1)))
    (lab.root / "old name.py").rename(lab.root / "new name.py")
    lab.write("crlf.py", "a\r\n")
    lab.write("no newline", "x")
    snapshot = lab.snapshot()
    patch = lab.top.parent / "run1.diff"
    assert patch.stat().st_size == snapshot.patch_bytes > 0
    other = tmp_path / "clone"
    lab.git("worktree", "add", "--detach", str(other), str(snapshot.commit))
    again = Lab(other, other)
    again.git("apply", "--index", str(patch))
    tree = again.git("write-tree")
    assert again.git("rev-parse", f"{tree}:{snapshot.prefix}") == snapshot.tree


def test_tree_and_base_outlive_amend_and_gc(any_lab: Lab) -> None:
    lab = any_lab
    lab.write("a.py", "never committed\n")
    snapshot = lab.snapshot()
    (lab.root / "a.py").unlink()
    lab.git("commit", "-q", "--amend", "--allow-empty", "-m", "another")

    def collect() -> None:
        lab.git("reflog", "expire", "--expire=now", "--all")
        lab.git("gc", "-q", "--prune=now")

    collect()
    assert lab.git("cat-file", "-t", snapshot.tree) == "tree"
    assert lab.git("show", f"{snapshot.tree}:a.py") == "never committed"
    assert lab.git("cat-file", "-t", str(snapshot.commit)) == "commit"
    drop_refs(lab.root, "run1", "never-was")
    assert lab.git("for-each-ref", "refs/orchestra") == ""
    collect()
    for lost in (snapshot.tree, str(snapshot.commit)):
        with pytest.raises(subprocess.CalledProcessError):
            lab.git("cat-file", "-e", lost)


def test_the_same_code_is_laid_out_once(lab: Lab) -> None:
    first = lab.snapshot("run1")
    marker = first.code / "marker"
    marker.touch()
    lab.write("elsewhere.py")
    second = lab.snapshot("run2")
    assert second.code != first.code
    (lab.root / "elsewhere.py").unlink()
    assert lab.snapshot("run3").code == first.code
    assert marker.exists()


def test_concurrent_snapshots_of_one_tree(lab: Lab) -> None:
    for number in range(100):
        lab.write(f"lib/m{number}.py", f"{number}\n")
    pending = [
        start_snapshot(lab.root, lab.runs.path, f"run{number}", lab.top.parent / f"{number}.diff")
        for number in range(3)
    ]
    snapshots = [one.result() for one in pending]
    assert len({one.code for one in snapshots}) == 1
    assert len(laid_out(snapshots[0])) >= 100
    assert [path.name for path in snapshots[0].code.parent.iterdir()] == [snapshots[0].code.name]
    assert lab.git("for-each-ref", "--format=%(refname)", "refs/orchestra").count("tree") == 3


def test_before_the_first_commit(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "repo", "")
    lab.write("a.py", "1\n")
    snapshot = lab.snapshot()
    assert (snapshot.commit, snapshot.branch, snapshot.dirty) == (None, "main", True)
    assert laid_out(snapshot)["a.py"] == b"1\n"
    assert "new file" in (lab.top.parent / "run1.diff").read_text()
    assert lab.git("for-each-ref", "--format=%(refname)") == "refs/orchestra/run1/tree"


def test_detached_head(lab: Lab) -> None:
    commit = lab.git("rev-parse", "HEAD")
    lab.git("checkout", "-q", "--detach")
    snapshot = lab.snapshot()
    assert (snapshot.commit, snapshot.branch) == (commit, None)


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_in_the_middle_of_a_merge(tmp_path: Path, where: str) -> None:
    lab = make_lab(tmp_path / "repo", "lab")
    file = lab.root / "a.py" if where == "inside" else lab.top / "a.py"
    file.write_text("base\n")
    lab.commit()
    lab.git("checkout", "-qb", "other")
    file.write_text("theirs\n")
    lab.commit()
    lab.git("checkout", "-q", "main")
    file.write_text("mine\n")
    lab.commit()
    with pytest.raises(subprocess.CalledProcessError):
        lab.git("merge", "other")
    lab.write("more.py")
    before = users_things(lab)
    files = laid_out(lab.snapshot())
    assert users_things(lab) == before
    assert "more.py" in files
    if where == "inside":
        assert b"<<<<<<<" in files["a.py"]  # as on disk, honest


def test_links_modes_and_filters(lab: Lab) -> None:
    lab.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    (lab.root / "link").symlink_to("tasks/mine")
    (lab.root / "broken").symlink_to("/nowhere")
    lab.git("config", "filter.upper.clean", "tr a-z A-Z")
    lab.git("config", "filter.upper.smudge", "tr A-Z a-z")
    lab.write(".gitattributes", "*.up filter=upper\n*.win text eol=crlf\nsecret.py export-ignore\n")
    lab.write("text.up", "quiet\n")
    lab.write("text.win", b"a\r\nb\r\n")
    lab.write("secret.py")
    snapshot = lab.snapshot()
    code = snapshot.code
    assert os.access(code / "run.sh", os.X_OK)
    assert not os.access(code / "tasks/mine/config.py", os.X_OK)
    assert (code / "link").readlink() == Path("tasks/mine")
    assert (code / "broken").readlink() == Path("/nowhere")
    files = laid_out(snapshot)
    assert lab.git("cat-file", "blob", f"{snapshot.tree}:text.up") == "QUIET"
    assert (files["text.up"], files["text.win"]) == (b"quiet\n", b"a\r\nb\r\n")
    assert "secret.py" in files


def test_a_file_in_place_of_a_folder(lab: Lab) -> None:
    lab.write("thing/a.py")
    lab.commit()
    (lab.root / "thing/a.py").unlink()
    (lab.root / "thing").rmdir()
    lab.write("thing", "now a file\n")
    assert laid_out(lab.snapshot())["thing"] == b"now a file\n"


def test_big_untracked_files_are_refused_by_name(lab: Lab) -> None:
    lab.write("ok.bin", b"0" * 4_000_000)
    lab.write("weights.bin", b"0" * 6_000_000)
    with pytest.raises(UsageError, match=r"weights\.bin \(6\.0 MB\).*\.gitignore") as caught:
        lab.snapshot()
    assert "ok.bin" not in str(caught.value)
    assert lab.git("for-each-ref", "refs/orchestra") == ""
    lab.write(".gitignore", "/runs/\n*.bin\n")
    assert lab.snapshot().dirty
    # A tracked file may be as big as the user likes.
    lab.git("add", "-f", str(lab.root / "weights.bin"))
    assert "weights.bin" in laid_out(lab.snapshot("run2"))


def test_many_untracked_files_are_refused(lab: Lab) -> None:
    for number in range(11):
        os.truncate(lab.write(f"part{number}.bin", b""), 4_900_000)
    with pytest.raises(UsageError, match=r"54 MB are too much.*part.*\.gitignore"):
        lab.snapshot()


def test_the_runs_folder_is_never_part_of_it(lab: Lab) -> None:
    lab.write(".gitignore", "")
    lab.commit()
    lab.write("runs/r1/checkpoint.bin", b"0" * 6_000_000)
    snapshot = lab.snapshot()
    assert not snapshot.dirty
    assert not [path for path in laid_out(snapshot) if path.startswith("runs")]


def test_a_repository_inside_is_refused(lab: Lab) -> None:
    subprocess.run(["git", "init", "-q", str(lab.root / "toolkit")], check=True)
    lab.write("toolkit/a.py")
    with pytest.raises(UsageError, match=r"toolkit/.*\.gitignore.*submodule"):
        lab.snapshot()


def test_a_submodule_is_recorded_by_its_commit(any_lab: Lab, tmp_path: Path) -> None:
    lab = any_lab
    library = Lab(tmp_path / "library", tmp_path / "library")
    library.top.mkdir()
    library.git("init", "-q", "-b", "main")
    library.write("lib.py", "1\n")
    library.commit()
    path = str((lab.root / "vendor").relative_to(lab.top))
    lab.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library.top), path)
    lab.commit()
    assert laid_out(lab.snapshot())["vendor/lib.py"] == b"1\n"

    inner = Lab(lab.root / "vendor", lab.root / "vendor")
    inner.write("lib.py", "2\n")
    unclean = lab.snapshot("run2")
    assert laid_out(unclean)["vendor/lib.py"] == b"1\n"
    assert "vendor has changes of its own" in unclean.warnings[0]

    commit = inner.commit()
    moved = lab.snapshot("run3")
    assert moved.dirty
    assert laid_out(moved)["vendor/lib.py"] == b"2\n"
    assert lab.git("rev-parse", f"{moved.tree}:vendor") == commit


def test_a_worktree_has_its_own_index(any_lab: Lab, tmp_path: Path) -> None:
    lab = any_lab
    lab.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    prefix = lab.root.relative_to(lab.top)
    side = Lab(tmp_path / "side", tmp_path / "side" / prefix)
    side.write("a.py", "side\n")
    side.git("add", "-A")
    snapshot = side.snapshot()
    assert (snapshot.branch, laid_out(snapshot)["a.py"]) == ("side", b"side\n")


def test_another_repository_in_the_environment_is_not_meant(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = lab.snapshot().tree
    subprocess.run(["git", "init", "-q", str(tmp_path / "other")], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert lab.snapshot("run2").tree == tree


def test_an_ignored_workspace_is_hashed_instead(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "repo", "scratch")
    (lab.top / ".gitignore").write_text("/scratch/\n")
    lab.commit()
    snapshot = lab.snapshot()
    assert snapshot.commit is None
    assert "ignored by git" in snapshot.warnings[0]
    assert "orchestra/tasks.py" in laid_out(snapshot)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_another_users_repository(lab: Lab) -> None:
    os.chown(lab.top, 12345, 12345)
    os.chown(lab.top / ".git", 12345, 12345)
    with pytest.raises(UsageError, match=r"another user owns it.*safe\.directory"):
        lab.snapshot()


def test_a_broken_repository(lab: Lab) -> None:
    (lab.top / ".git" / "HEAD").write_text("garbage")
    with pytest.raises(UsageError, match=r"git can't read"):
        lab.snapshot()


def test_a_missing_object(lab: Lab) -> None:
    tree = lab.git("rev-parse", "HEAD^{tree}")
    (lab.top / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    lab.write("new.py")
    with pytest.raises(UsageError, match=r"cannot snapshot the code.*git fsck"):
        lab.snapshot()


def test_without_a_git_program(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="install git"):
        lab.snapshot()


def test_an_unwritable_runs_folder(lab: Lab) -> None:
    lab.write("runs", "a file, not a folder")
    with pytest.raises(OrchestraError, match="--runs-dir"):
        lab.snapshot()
    assert not list(lab.root.glob("runs/.snapshots"))


def test_cancelling_leaves_no_reference(lab: Lab) -> None:
    pending = start_snapshot(lab.root, lab.runs.path, "run1", lab.top.parent / "p.diff")
    pending.cancel()
    done = start_snapshot(lab.root, lab.runs.path, "run2", lab.top.parent / "p.diff")
    done.result()
    assert "run2" in lab.git("for-each-ref", "refs/orchestra")
    done.cancel()
    assert lab.git("for-each-ref", "refs/orchestra") == ""
