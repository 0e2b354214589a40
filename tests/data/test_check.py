from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.data.check import main
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import write_manifest

RATE = 16000


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def line(id_: str, **changes: Any) -> dict[str, Any]:
    row = {"id": id_, "path": f"{id_}.wav", "offset_s": 0.0, "duration_s": 1.0, "text": "HELLO"}
    return {**row, **changes}


def check(capfd: pytest.CaptureFixture[str], folder: Path, *splits: str) -> tuple[int, Any, str]:
    code = main(["--manifests", str(folder), *(w for s in splits for w in ("--split", s))])
    captured = capfd.readouterr()
    return code, json.loads(captured.out) if captured.out else None, captured.err


def test_good_manifests_are_said_to_be_good(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    write_manifest(tmp_path, "dev", [line("a")], "test")
    code, document, err = check(capfd, tmp_path)
    assert code == ExitCode.OK
    assert document["problems"] == 0
    assert document["splits"]["dev"] == {"count": 1, "seconds": 1.0, "problems": []}
    assert "0 of 1" in err


def test_everything_training_would_stumble_over_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for good in ("good", "wordless", "unlabelled"):
        soundfile.write(tmp_path / f"{good}.wav", noise(1.0), RATE)
    soundfile.write(tmp_path / "corrupt.flac", noise(1.0), RATE)
    whole = (tmp_path / "corrupt.flac").read_bytes()
    (tmp_path / "corrupt.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.wav").write_bytes(b"")
    bad = noise(1.0)
    bad[5] = np.inf
    soundfile.write(tmp_path / "infinite.wav", bad, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "short.wav", noise(0.7), RATE)
    soundfile.write(tmp_path / "long.wav", noise(2.0), RATE)
    unlabelled = line("unlabelled")
    del unlabelled["text"]
    rows = [
        line("good"),
        line("corrupt", path="corrupt.flac"),
        line("missing"),
        line("empty"),
        line("infinite"),
        line("silent"),
        line("short"),
        line("long"),
        line("wordless", text="  "),
        unlabelled,
    ]
    write_manifest(tmp_path, "dev", rows, "test")
    code, document, err = check(capfd, tmp_path)
    assert code == ExitCode.FAILED
    found = {p["id"]: (p["line"], p["problem"]) for p in document["splits"]["dev"]["problems"]}
    expected = {
        "corrupt": "corrupt",
        "missing": "No such file",
        "empty": "0 bytes",
        "infinite": "not finite",
        "silent": "silent",
        "short": "ends at 0.70 s",
        "long": "the file lasts 2.00 s, the manifest says 1.00 s",
        "wordless": "text is empty",
    }
    assert list(found) == list(expected)
    for number, (id_, reason) in enumerate(expected.items(), 2):
        at, problem = found[id_]
        assert at == number
        assert reason in problem and repr(id_) in problem
        assert f"dev.jsonl, line {number}: {problem}" in err
    assert document["problems"] == len(expected)
    assert "dev: 10 of 10 checked, 8 unusable" in err


def test_several_utterances_may_share_a_long_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "tape.wav", noise(3.0), RATE)
    rows = [line(f"u{n}", path="tape.wav", offset_s=float(n)) for n in range(3)]
    write_manifest(tmp_path, "dev", rows, "test")
    assert check(capfd, tmp_path)[0] == ExitCode.OK


def test_only_the_splits_asked_for_are_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    write_manifest(tmp_path, "dev", [line("a")], "test")
    write_manifest(tmp_path, "bad", [line("missing")], "test")
    code, document, _ = check(capfd, tmp_path, "dev")
    assert code == ExitCode.OK
    assert list(document["splits"]) == ["dev"]
    assert check(capfd, tmp_path)[0] == ExitCode.FAILED


def test_a_manifest_line_that_is_none_is_named_with_its_number(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_manifest(tmp_path, "dev", [line("a")], "test")
    with (tmp_path / "dev.jsonl").open("a") as file:
        file.write("{broken\n")
    code, document, err = check(capfd, tmp_path)
    assert code == ExitCode.FAILED
    assert document is None
    assert "dev.jsonl, line 2" in err


def test_no_manifests_and_no_such_split_are_not_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = check(capfd, tmp_path)
    assert code == ExitCode.NOT_FOUND
    assert "orchestra data prepare" in err
    write_manifest(tmp_path, "dev", [], "test")
    code, _, err = check(capfd, tmp_path, "test")
    assert code == ExitCode.NOT_FOUND
    assert "it has dev" in err
