"""Entries of the feature cache: whole or not there, checked, told from others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from orchestra.data import feature_store
from orchestra.data.feature_file import encoded, read_into, verified
from orchestra.data.feature_store import FeatureStore, Found, Kind
from orchestra.wire.errors import DataError
from orchestra.wire.features import entry_path, usage
from orchestra.wire.manifest import Utterance
from tests.fakes.disk import mounted, read_only

KIND = Kind({"weights": "w1"}, {"source": "lab/model"}, layers=3, dim=5)


def features(frames: int) -> torch.Tensor:
    return torch.randn(3, frames, 5, generator=torch.Generator().manual_seed(frames)).half()


def utterance(name: str) -> Utterance:
    return Utterance(name, Path("/nowhere"), 0.0, 1.0, {})


def store_in(
    folder: Path, told: list[str] | None = None, kind: Kind = KIND, limit_bytes: int = 2**40
) -> FeatureStore:
    said = told.append if told is not None else lambda text: None
    return FeatureStore(folder, kind, lambda u: u.id, said, limit_bytes)


def put(store: FeatureStore, *names: str, frames: int = 7) -> list[Found]:
    """Store features for these utterances; what is found then."""
    for name in names:
        store.put(store.find(utterance(name)).key, features(frames), 16000, name == "silent")
    store.close()
    return [store.find(utterance(name)) for name in names]


def path_of(folder: Path, found: Found) -> Path:
    return entry_path(folder, KIND.name, found.key)


def test_what_was_put_is_read_into_a_padded_batch(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.find(utterance("a")).entry is None
    put(store, "a", frames=4)
    put(store, "b", frames=9)
    found = [store.find(utterance(name)) for name in ("a", "none", "b")]
    stored = store.gather(found)
    assert stored.lengths.tolist() == [4, 0, 9]
    assert stored.layers.shape == (3, 3, 9, 5)
    assert torch.equal(stored.layers[:, 0, :4], features(4))
    assert torch.equal(stored.layers[:, 2], features(9))
    assert not stored.layers[:, 0, 4:].any() and not stored.layers[:, 1].any()
    assert found[0].entry is not None and found[0].entry.samples == 16000


def test_an_entry_is_a_safetensors_file(tmp_path: Path) -> None:
    (found,) = put(store_in(tmp_path), "a")
    assert torch.equal(safetensors.torch.load_file(path_of(tmp_path, found))["layers"], features(7))


@pytest.mark.parametrize("position", [0, 9, 60, 90, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, position: int) -> None:
    told: list[str] = []
    store = store_in(tmp_path, told)
    (found,) = put(store, "a")
    data = bytearray(path_of(tmp_path, found).read_bytes())
    data[position] ^= 1
    path_of(tmp_path, found).write_bytes(data)
    again = store.find(utterance("a"))
    assert again.entry is None
    store.gather([again])
    assert "is damaged" in told[0] and "computed again" in told[0]
    (mended,) = put(store, "a")
    assert mended.entry is not None


@pytest.mark.parametrize("size", [0, 5, 100, 250])
def test_a_part_of_a_file_is_never_taken_for_the_whole(tmp_path: Path, size: int) -> None:
    store = store_in(tmp_path)
    (found,) = put(store, "a")
    data = path_of(tmp_path, found).read_bytes()
    assert size < len(data)
    path_of(tmp_path, found).write_bytes(data[:size])
    assert store.find(utterance("a")).entry is None


def test_a_header_of_other_numbers_is_noticed(tmp_path: Path) -> None:
    """The length of the audio is under the checksum too."""
    path = tmp_path / "x"
    header, data = encoded(features(7), 16000, silent=False)
    path.write_bytes(header.replace(b"16000", b"16001") + bytes(data))
    with pytest.raises(DataError, match="checksum"):
        verified(path)
    path.write_bytes(header + bytes(data))
    entry = verified(path)
    path.write_bytes(header)
    with pytest.raises(DataError, match="shrank"):
        read_into(entry, torch.empty(entry.shape, dtype=torch.float16))


def test_other_causes_have_other_entries(tmp_path: Path) -> None:
    put(store_in(tmp_path), "a")
    other = Kind({"weights": "w2"}, KIND.remarks, KIND.layers, KIND.dim)
    assert store_in(tmp_path, kind=other).find(utterance("a")).entry is None
    remarked = Kind(KIND.causes, {"source": "/moved"}, KIND.layers, KIND.dim)
    assert store_in(tmp_path, kind=remarked).find(utterance("a")).entry is not None


def test_a_use_is_noted_in_the_time_of_the_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    (found,) = put(store, "a")
    path = path_of(tmp_path, found)
    os.utime(path, (1e9, 1e9))
    store.find(utterance("a"))
    assert path.stat().st_mtime > 1.5e9


def test_entries_that_are_not_ours_are_read_whenever_they_were_used(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    (found,) = put(store_in(folder), "a")
    os.utime(path_of(folder, found), (1e9, 1e9))
    with read_only(folder):
        told: list[str] = []
        store = store_in(folder, told)
        assert store.find(utterance("a")).entry is not None
        missed = store.find(utterance("b"))
        store.put(missed.key, features(7), 16000, silent=False)
        store.close()
    assert len(told) == 1 and "nothing more is stored" in told[0] and "Read-only" in told[0]


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "RESERVE_BYTES", 0)
    with mounted(tmp_path / "disk", 2) as disk:
        told: list[str] = []
        found = put(store_in(disk, told), *(f"u{n}" for n in range(20)), frames=20_000)
        assert 0 < sum(each.entry is not None for each in found) < 4  # 0.6 MB each
        assert not any(each.damage for each in found)
        assert len(told) == 1 and "nothing more is stored, the disk is full" in told[0]
        assert not list((disk / ".new").iterdir())


def test_some_of_the_disk_is_left_for_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "RESERVE_BYTES", 2**60)
    told: list[str] = []
    (found,) = put(store_in(tmp_path, told), "a")
    assert found.entry is None
    assert len(told) == 1 and "MiB are free" in told[0]


def test_a_folder_that_cannot_be_made_is_told_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    told: list[str] = []
    (found,) = put(store_in(tmp_path / "cache", told), "a")
    assert found.entry is None and not found.damage
    assert len(told) == 1 and "nothing more is stored, its folder can't be made" in told[0]


def test_the_limit_holds_for_the_folder_whoever_fills_it(tmp_path: Path) -> None:
    """Runs of other features too, each of which sees room for itself."""
    one = sum(map(len, encoded(features(2000), 16000, silent=False)))
    told: list[str] = []
    kinds = [Kind({"weights": name}, {}, KIND.layers, KIND.dim) for name in ("a", "b", "c")]
    stores = [store_in(tmp_path, told, kind, limit_bytes=20 * one) for kind in kinds]
    for n in range(12):
        for store in stores:
            store.put(store.find(utterance(str(n))).key, features(2000), 16000, silent=False)
    for store in stores:
        store.close()
    held = usage(tmp_path)
    # Two that measured at the same moment may both have gone ahead.
    assert 20 <= held.entries <= 22
    assert told and all("it holds the" in text and "cache.max_gb" in text for text in told)


def test_a_cache_that_is_cleared_under_a_run_fills_again(tmp_path: Path) -> None:
    told: list[str] = []
    store = store_in(tmp_path / "cache", told)
    put(store, "a")
    shutil.rmtree(tmp_path / "cache")
    assert store.find(utterance("a")).entry is None
    (found,) = put(store, "a")
    assert found.entry is not None and told == []
    assert usage(tmp_path / "cache", source="lab/model").entries == 1, "its kind is known again"


_WRITER = """
import sys
from pathlib import Path
from tests.data.test_feature_store import put, store_in
store = store_in(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    put(store, *(f"u{n}" for n in range(8)), frames=2000)
"""


def test_writers_of_the_same_entries_that_are_killed_leave_only_whole_ones(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    told: list[str] = []
    store = store_in(tmp_path, told)
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        seen = 0
        while seen < 200:  # while both are at it
            found = [store.find(utterance(f"u{n}")) for n in range(8)]
            assert not any(each.damage for each in found)
            seen += sum(each.entry is not None for each in found)
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
    stored = store.gather([store.find(utterance(f"u{n}")) for n in range(8)])
    assert told == []
    for row in range(8):
        if stored.lengths[row]:
            assert torch.equal(stored.layers[:, row], features(2000))
