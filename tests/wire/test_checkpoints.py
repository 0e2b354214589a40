"""Names and manifests of checkpoints, as both planes read them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.wire import checkpoints
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import OrchestraError
from tests.wire.checkpoint_folders import make_checkpoint


def test_no_bit_of_a_manifest_can_flip_and_pass_as_another(tmp_path: Path) -> None:
    file = make_checkpoint(tmp_path, 1, 0.5) / "manifest.json"
    data = file.read_bytes()
    true = checkpoints.parse_manifest(data)
    unseen = 0
    for place in range(8 * len(data)):
        altered = bytearray(data)
        altered[place // 8] ^= 1 << place % 8
        try:
            found = checkpoints.parse_manifest(bytes(altered))
        except BadCheckpointError:
            continue
        unseen += 1
        assert replace(found, sha256=true.sha256) == true  # white space, or a sign of no number
    assert unseen < 0.2 * 8 * len(data)


def test_a_manifest_of_an_older_version_has_no_seal(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 1, 0.5)
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**document, "score": 0.7}))
    with pytest.raises(BadCheckpointError, match="its seal differs"):
        checkpoints.verify(folder)
    del document["seal"]
    (folder / "manifest.json").write_text(json.dumps(document))
    assert checkpoints.verify(folder).score == 0.5


def test_newest_is_that_of_the_highest_step(tmp_path: Path) -> None:
    steps = (99_999_999, 100_000_000, 5)
    for step in steps:
        make_checkpoint(tmp_path, step, None)
    (tmp_path / "step-00000007.copy").mkdir()
    found = [checkpoints.read_manifest(path).step for path in checkpoints.committed(tmp_path)]
    assert found == sorted(steps, reverse=True)


def test_bad_checkpoint_is_shown_without_a_traceback() -> None:
    assert issubclass(BadCheckpointError, OrchestraError)


@pytest.mark.parametrize("torn", [False, True])
def test_a_stand_in_goes_only_once_the_new_one_is_known_to_be_good(
    tmp_path: Path, torn: bool
) -> None:
    make_checkpoint(tmp_path, 1, None).rename(tmp_path / ".replaced-step-00000001")
    new = make_checkpoint(tmp_path, 1, 0.5)
    if torn:
        (new / "model.safetensors").write_bytes(b"torn")
    checkpoints.recover(tmp_path)
    assert checkpoints.verify(new).score == (None if torn else 0.5)
    assert checkpoints.committed(tmp_path) == [new]
    assert len(checkpoints.quarantined(tmp_path, 1)) == torn


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/model.safetensors"])
def test_a_manifest_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    path = make_checkpoint(tmp_path, 1, None) / "manifest.json"
    document = json.loads(path.read_text())
    document["files"][name] = {"size": 0, "sha256": ""}
    path.write_text(json.dumps({**document, "seal": checkpoints.seal(document | {"seal": ""})}))
    with pytest.raises(BadCheckpointError, match=f"manifest.json lists '{name}'"):
        checkpoints.verify(path.parent)


def test_what_is_no_checkpoint_is_not_listed(tmp_path: Path) -> None:
    kept = make_checkpoint(tmp_path, 3, None)
    for name in ("step-4", "step-0000000x", ".writing-00000005-1-2", ".replaced-step-00000006"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000009").write_text("a file")
    assert checkpoints.committed(tmp_path) == [kept]
    assert checkpoints.committed(tmp_path / "none") == []
