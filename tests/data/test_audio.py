from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import encode_flac, is_silent, read_audio, read_header
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance


def utterance(path: Path, duration_s: float, offset_s: float = 0.0) -> Utterance:
    return Utterance("spk-1", path, offset_s, duration_s, {})


def tone(hz: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def test_16_khz_mono_comes_back_as_it_was_written(tmp_path: Path) -> None:
    samples = tone(440, 0.5, SAMPLE_RATE)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    read = read_audio(utterance(tmp_path / "a.wav", 0.5))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, samples)


def test_offset_and_duration_cut_exactly_that_part(tmp_path: Path) -> None:
    samples = np.arange(SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    read = read_audio(utterance(tmp_path / "a.wav", 0.25, offset_s=0.5))
    np.testing.assert_array_equal(read, samples[8000:12000])


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate_becomes_16_khz_and_keeps_its_pitch(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1000, 1.0, rate), rate)
    read = read_audio(utterance(tmp_path / "a.wav", 1.0))
    assert abs(len(read) - SAMPLE_RATE) <= 1
    assert np.argmax(np.abs(np.fft.rfft(read, n=SAMPLE_RATE))) == 1000


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(300, 0.2, SAMPLE_RATE), tone(700, 0.2, SAMPLE_RATE)
    soundfile.write(
        tmp_path / "a.wav", np.stack([left, right], axis=1), SAMPLE_RATE, subtype="FLOAT"
    )
    read = read_audio(utterance(tmp_path / "a.wav", 0.2))
    np.testing.assert_allclose(read, (left + right) / 2, atol=1e-6)


def test_flac_of_the_same_samples_has_the_same_bytes_and_reads_back(tmp_path: Path) -> None:
    samples = tone(440, 0.3, SAMPLE_RATE)
    assert encode_flac(samples) == encode_flac(samples)
    (tmp_path / "a.flac").write_bytes(encode_flac(samples))
    assert read_header(tmp_path / "a.flac").duration_s == 0.3
    np.testing.assert_allclose(
        read_audio(utterance(tmp_path / "a.flac", 0.3)), samples, atol=1 / 32768
    )


def damaged(folder: Path, how: str) -> Path:
    path = folder / "a.flac"
    whole = encode_flac(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32))
    contents = {
        "empty": b"",
        "no audio": b"this is no audio file at all" * 20,
        "truncated": whole[: len(whole) // 2],
        "corrupt": whole[:9000] + bytes(400) + whole[9400:],
    }
    if how in contents:
        path.write_bytes(contents[how])
    elif how == "a folder":
        path.mkdir()
    elif how == "no samples":
        path = folder / "a.wav"
        soundfile.write(path, np.zeros(0, np.float32), SAMPLE_RATE)
    elif how == "truncated wav":
        path = folder / "a.wav"
        soundfile.write(path, np.zeros(16000, np.float32), SAMPLE_RATE)
        path.write_bytes(path.read_bytes()[:8000])
    elif how in ("1 Hz", "2 GHz"):
        path = folder / "a.wav"
        soundfile.write(path, np.zeros(16000, np.float32), SAMPLE_RATE)
        rate = 1 if how == "1 Hz" else 2**31 - 1
        header = path.read_bytes()
        path.write_bytes(header[:24] + rate.to_bytes(4, "little") + header[28:])
    elif how == "not finite":
        path = folder / "a.wav"
        samples = np.zeros(16000, np.float32)
        samples[100] = np.nan
        soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "No such file"),
        ("a folder", "directory"),
        ("empty", "0 bytes"),
        ("no audio", "corrupt or not an audio file"),
        ("truncated", "corrupt|ends at"),
        ("truncated wav", "ends at 0.2"),
        ("corrupt", "corrupt"),
        ("no samples", "ends at 0.00 s"),
        ("not finite", "not finite"),
        ("1 Hz", "its header says 1 Hz, so it is damaged"),
        ("2 GHz", "its header says 2147483647 Hz"),
    ],
)
def test_bad_files_are_named_by_id_and_path(tmp_path: Path, how: str, reason: str) -> None:
    path = damaged(tmp_path, how)
    with pytest.raises(DataError, match=reason) as caught:
        read_audio(utterance(path, 1.0))
    assert "'spk-1'" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_offset_beyond_the_end_is_a_data_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 0.5, SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(DataError, match=r"the manifest says 3\.00 s"):
        read_audio(utterance(tmp_path / "a.wav", 1.0, offset_s=2.0))


@pytest.mark.parametrize("duration_s", [0.0, -1.0])
def test_a_duration_without_samples_is_a_data_error(tmp_path: Path, duration_s: float) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 0.5, SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(DataError, match="hold no samples"):
        read_audio(utterance(tmp_path / "a.wav", duration_s))


def test_times_rounded_by_other_tools_are_tolerated(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 0.5, SAMPLE_RATE), SAMPLE_RATE)
    assert len(read_audio(utterance(tmp_path / "a.wav", 0.51))) == 8000


def test_headers_of_bad_files_are_data_errors(tmp_path: Path) -> None:
    for how in ("missing", "empty", "no audio", "truncated", "no samples"):
        with pytest.raises(DataError):
            read_header(damaged(tmp_path, how))


def test_an_absurd_rate_is_found_in_the_header_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.wav: its header says 1 Hz"):
        read_header(damaged(tmp_path, "1 Hz"))


def test_what_becomes_no_sample_at_16_khz_is_a_data_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 0.5, 96000), 96000)
    with pytest.raises(DataError, match=r"'spk-1': .*a\.wav: 1 samples at 96000 Hz are too few"):
        read_audio(utterance(tmp_path / "a.wav", 1 / 96000))


def test_one_channel_may_be_read_alone(tmp_path: Path) -> None:
    left, right = tone(300, 0.2, SAMPLE_RATE), tone(700, 0.2, SAMPLE_RATE)
    both = np.stack([left, right], axis=1)
    soundfile.write(tmp_path / "a.wav", both, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(utterance(tmp_path / "a.wav", 0.2), channel=1), right)


@pytest.mark.parametrize(("decibel", "silent"), [(-91, True), (-89, False)])
def test_silence_lies_below_90_decibel(decibel: float, silent: bool) -> None:
    wav = np.zeros(100, np.float32)
    wav[50] = -(10 ** (decibel / 20))
    assert is_silent(wav) is silent
    assert is_silent(np.zeros(0, np.float32))


@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU"])
def test_a_file_that_is_cut_is_not_taken_for_a_shorter_one(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a"
    soundfile.write(path, tone(440, 0.5, SAMPLE_RATE), SAMPLE_RATE, format=format)
    assert read_header(path).frames == 8000
    whole = path.read_bytes()
    path.write_bytes(whole[:9000])
    with pytest.raises(DataError, match=rf"{path}: \d+ of the 160\d\d bytes of samples"):
        read_header(path)


def test_a_stream_whose_end_was_not_known_is_as_long_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440, 0.5, SAMPLE_RATE), SAMPLE_RATE)
    whole = path.read_bytes()
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):  # ffmpeg's and sox's, into a pipe
        promised = size.to_bytes(4, "little")
        path.write_bytes(whole[:4] + promised + whole[8:40] + promised + whole[44:])
        assert read_header(path).frames == 8000


@pytest.mark.parametrize(
    ("format_", "codec"), [("WAV", "GSM610"), ("AU", "G721_32"), ("WAV", "NMS_ADPCM_16")]
)
def test_codecs_that_can_only_be_read_on(tmp_path: Path, format_: str, codec: str) -> None:
    path = tmp_path / "a.x"
    tone = 0.3 * np.sin(np.arange(8000) / 10)
    soundfile.write(path, tone, 8000, format=format_, subtype=codec)
    header = read_header(path)
    whole = read_audio(Utterance("a", path, 0.0, header.duration_s, {}))
    part = read_audio(Utterance("a", path, 0.5, 0.25, {}))
    assert len(whole) == round(header.duration_s * 16000)
    assert np.abs(part[100:-100] - whole[8000:12000][100:-100]).max() < 0.01
