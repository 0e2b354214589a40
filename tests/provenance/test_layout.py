from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.provenance.layout import lay_out, unused_snapshots
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunsFolder


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path)

    def dies(folder: Path) -> None:
        (folder / "half.py").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lay_out(runs, "key", dies)
    assert list((tmp_path / ".snapshots").iterdir()) == []

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OrchestraError, match=r"No space left.*--runs-dir"):
        lay_out(runs, "key", full)


def test_the_faster_one_wins(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path)

    def slow(folder: Path) -> None:
        lay_out(runs, "key", lambda other: (other / "a.py").write_text("first") and None)
        (folder / "a.py").write_text("second")

    code = lay_out(runs, "key", slow)
    assert (code / "a.py").read_text() == "first"
    assert list((tmp_path / ".snapshots").iterdir()) == [code]


def test_unused_ones_are_found_with_what_a_killed_layout_left(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path)
    assert unused_snapshots(runs, []) == []
    for key in ("used", "unused"):
        lay_out(runs, key, lambda folder: None)
    (tmp_path / ".snapshots" / ".tmp-dead").mkdir()
    names = [path.name for path in unused_snapshots(runs, {"used"})]
    assert names == [".tmp-dead", "unused"]
