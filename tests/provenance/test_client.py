from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.provenance.client import drop_refs, start_snapshot
from orchestra.wire.errors import OrchestraError
from tests.provenance.conftest import Lab


def test_provenance_json_outlives_a_moved_runs_folder(lab: Lab) -> None:
    snapshot = lab.snapshot()
    document = snapshot.to_json()
    assert document["code"] == snapshot.code.name
    assert lab.runs.snapshot(document["code"]) == snapshot.code
    assert document["version"] == 1
    assert (document["tree"], document["dirty"]) == (snapshot.tree, False)


def test_the_running_package_takes_the_snapshot_not_one_of_the_current_folder(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write("orchestra/__init__.py", "raise SystemExit('the wrong orchestra')\n")
    monkeypatch.chdir(lab.root)
    assert lab.snapshot().dirty


def test_a_process_that_dies_is_a_sentence(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pending = start_snapshot(lab.root, lab.runs.path, "run1", lab.top.parent / "p.diff")
    with pytest.raises(OrchestraError, match="the code snapshot failed: exit 1"):
        pending.result()
    with pytest.raises(OrchestraError, match="failed"):
        drop_refs(lab.root, "run1")


def test_nothing_to_drop_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    drop_refs(tmp_path)


def test_a_terminated_snapshot_tidies_up(lab: Lab, tmp_path: Path) -> None:
    """Ended in the middle of its checkout, which a filter holds up for as long as we like."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    gate, reached = tmp_path / "gate", tmp_path / "reached"
    os.mkfifo(gate)
    os.mkfifo(reached)
    lab.git("config", "filter.slow.smudge", f"echo > {reached}; read x < {gate}; cat")
    lab.write(".gitattributes", "*.slow filter=slow\n")
    lab.write("a.slow", "x\n")
    program = [sys.executable, "-m", "orchestra.provenance.snapshot"]
    process = subprocess.Popen(
        [*program, "--workspace", str(lab.root), "--runs", str(lab.runs.path), "--run", "run1"],
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
    )
    reached.read_text()
    assert len(list((lab.runs.path / ".snapshots").iterdir())) == 1
    process.terminate()
    gate.write_text("go\n")
    process.communicate(timeout=30)
    assert process.returncode == 128 + 15
    assert list((lab.runs.path / ".snapshots").iterdir()) == []
    assert list(scratch.iterdir()) == []
