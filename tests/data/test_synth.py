from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import read_audio, read_header
from orchestra.data.owned import PARTIAL_PREFIX
from orchestra.data.synth import AMOUNTS, MARKER, main, synthesise
from orchestra.data.synth_espeak import Espeak, EspeakFiles, Voice, locate_espeak
from orchestra.data.synth_speech import Amount
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import Utterance

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="eSpeak NG is not installed (extra `demo`)",
)
SMALL = {split: Amount(speakers=2, chapters=1, utterances=2, long_every=3) for split in AMOUNTS}


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "LibriSpeech"
    synthesise(root, 7, SMALL)
    return root


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_whole_corpus(root: Path) -> subprocess.Popen[bytes]:
    """The program on its full amounts, as soon as its first chapter is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestra.data.synth", "librispeech", "--root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: list(root.glob("train-clean-100/*/*")) or process.poll() is not None)
    return process


@needs_espeak
def test_the_layout_is_librispeechs(small: Path) -> None:
    chapter = small / "test-clean" / "3000" / "300000"
    assert sorted(path.name for path in chapter.iterdir()) == [
        "3000-300000-0000.flac",
        "3000-300000-0001.flac",
        "3000-300000.trans.txt",
    ]
    first, second = (chapter / "3000-300000.trans.txt").read_text().splitlines()
    assert first.startswith("3000-300000-0000 ") and first == first.upper()
    assert second.startswith("3000-300000-0001 ")
    header = read_header(chapter / "3000-300000-0000.flac")
    assert (header.rate, header.channels) == (SAMPLE_RATE, 1)
    assert "3000 " in (small / "SPEAKERS.TXT").read_text()
    assert json.loads((small / MARKER).read_bytes())["complete"] is True


@needs_espeak
def test_speech_is_audible_unclipped_and_some_is_much_longer(small: Path) -> None:
    durations = []
    for path in sorted(small.glob("*/*/*/*.flac")):
        duration_s = read_header(path).duration_s
        samples = read_audio(Utterance(path.stem, path, 0.0, duration_s, {}))
        assert 0.05 < abs(samples).max() < 1.0
        durations.append(duration_s)
    assert max(durations) > 12.0
    assert sorted(durations)[len(durations) // 2] < 6.0


@needs_espeak
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    small: Path, tmp_path: Path
) -> None:
    synthesise(tmp_path / "again", 7, SMALL)
    assert contents(tmp_path / "again") == contents(small)
    one = {"dev-clean": SMALL["dev-clean"]}
    synthesise(tmp_path / "other", 8, one)
    name = "dev-clean/2000/200000/2000-200000-0000.flac"
    assert contents(tmp_path / "other")[name] != contents(small)[name]


@needs_espeak
def test_what_is_lost_is_spoken_again_alone(small: Path, tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    synthesise(root, 7, SMALL)
    kept = root / "dev-clean/2000/200000/2000-200000-0000.flac"
    inode = kept.stat().st_ino
    (root / "test-other/4001/400001/4001-400001-0001.flac").unlink()
    (root / f"{PARTIAL_PREFIX}4000-400000").mkdir()
    synthesise(root, 7, SMALL)
    assert contents(root) == contents(small)
    assert kept.stat().st_ino == inode
    assert not list(root.glob(f"{PARTIAL_PREFIX}*"))


@needs_espeak
def test_a_complete_corpus_is_left_alone(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    synthesise(small, 7, SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert "already complete" in capfd.readouterr().err


@needs_espeak
def test_an_end_between_the_last_chapter_and_the_marker_is_made_good(
    small: Path, tmp_path: Path
) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(small, root)
    (root / "SPEAKERS.TXT").unlink()
    marker = json.loads((root / MARKER).read_bytes())
    (root / MARKER).write_text(json.dumps({**marker, "complete": False}))
    synthesise(root, 7, SMALL)
    assert contents(root) == contents(small)


@needs_espeak
def test_a_corpus_of_another_seed_is_refused(small: Path) -> None:
    before = contents(small)
    with pytest.raises(ConflictError, match=r"another seed \(7, now 8\)"):
        synthesise(small, 8, SMALL)
    assert contents(small) == before


@needs_espeak
def test_a_real_corpus_is_never_touched(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dev-clean").mkdir()
    (tmp_path / "dev-clean" / "precious.flac").write_bytes(b"recorded")
    assert main(["librispeech", "--root", str(tmp_path)]) == ExitCode.CONFLICT
    assert contents(tmp_path) == {"dev-clean/precious.flac": b"recorded"}
    assert "choose an empty" in capfd.readouterr().err


@needs_espeak
def test_two_at_once_are_refused(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="another process is writing"):
            synthesise(tmp_path, 7, SMALL)
    finally:
        os.close(fd)


def test_a_missing_espeak_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert main(["librispeech", "--root", str(tmp_path / "new")]) == ExitCode.FAILED
    captured = capfd.readouterr()
    assert "pip install 'orchestra[demo]'" in captured.err
    assert captured.err.count("\n") == 1 and not captured.out
    assert not (tmp_path / "new").exists()


@needs_espeak
def test_a_failing_chapter_ends_the_program_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # eSpeak would speak an unknown variant with the plain voice, and two speakers would be one.
    monkeypatch.setattr("orchestra.data.synth_speech.speaker_voice", lambda *_: "en-us+nobody")
    root = tmp_path / "corpus"
    with pytest.raises(OrchestraError, match=r"was not written: .* no voice 'en-us\+nobody'"):
        synthesise(root, 7, SMALL)
    assert not list(root.glob(f"{PARTIAL_PREFIX}*"))
    assert json.loads((root / MARKER).read_bytes())["complete"] is False


@needs_espeak
def test_missing_voice_data_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = EspeakFiles(library=locate_espeak().library, data=tmp_path)
    monkeypatch.setattr("orchestra.data.synth.locate_espeak", lambda: files)
    with pytest.raises(OrchestraError, match="was not written: eSpeak NG"):
        synthesise(tmp_path / "corpus", 7, SMALL)


@needs_espeak
def test_voice_data_at_a_very_long_path_is_found(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 200)
    long.symlink_to(locate_espeak().data, target_is_directory=True)
    files = EspeakFiles(library=locate_espeak().library, data=long)
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(_samples_spoken, (files,)).get(timeout=60) > 1000


def _samples_spoken(files: EspeakFiles) -> int:
    return len(Espeak(files).say("hello", Voice("en-us", 175, 50, 50)))


@needs_espeak
def test_ctrl_c_leaves_nothing_half_written_and_nobody_running(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    process = start_whole_corpus(root)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the workers too
    out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert not out
    assert err.decode().splitlines()[-1].endswith("run the same command again")
    assert "Traceback" not in err.decode()
    assert not list(root.glob(f"{PARTIAL_PREFIX}*"))
    assert json.loads((root / MARKER).read_bytes())["complete"] is False
    assert not any(is_alive(pid) for pid in workers)
    for chapter in root.glob("*/*/*"):
        assert len(list(chapter.glob("*.flac"))) == AMOUNTS[chapter.parts[-3]].utterances


@needs_espeak
def test_kill_9_takes_the_workers_along(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    with start_whole_corpus(root) as process:
        workers: list[int] = []

        def held_at_work() -> bool:
            process.send_signal(signal.SIGSTOP)
            workers[:] = children(process.pid)
            if workers and len(list(root.glob(f"{PARTIAL_PREFIX}*"))) == len(workers):
                return True
            process.send_signal(signal.SIGCONT)
            return False

        wait_for(held_at_work)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)  # so that none can end by itself
        process.kill()
        try:
            wait_for(lambda: not any(is_alive(pid) for pid in workers))
        finally:
            for pid in filter(is_alive, workers):
                os.kill(pid, signal.SIGKILL)
