"""Read recordings: any format, rate and channel count in, 16 kHz mono float32 out.

Every way in which a file can be bad ends as one DataError that names the utterance and the path.
"""

from __future__ import annotations

import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from orchestra.data import SAMPLE_RATE
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000
"""Hz; a header that says less or more is damaged."""

SILENCE = 10 ** (-90 / 20)
"""A recording whose largest sample is below this (-90 dB of full scale, about the last bit of 16)
holds nothing."""

MISSING_TOLERANCE_S = 0.02
"""Manifests round their times; a file may end this much before its manifest says so."""

_BLOCK = 1 << 20  # frames
_STREAM_BYTES = 0x7FFF0000
"""A header that says so many was written by a program that did not know the end."""
_SIZES = re.compile(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""In libsndfile's log of a WAV, AIFF or AU file, which it takes to be as long as it is."""

Waveform = npt.NDArray[np.float32]
"""(samples,) at SAMPLE_RATE, in [-1, 1]."""


@dataclass(frozen=True)
class Header:
    """What a file claims about itself; only decoding shows whether it is true."""

    frames: int  # samples per channel
    rate: int  # Hz
    channels: int

    @property
    def duration_s(self) -> float:
        return self.frames / self.rate


def read_header(path: Path) -> Header:
    """Length, rate and channels of a file; of its samples only the last one is decoded, where the
    format lets one go there.

    Raises:
        DataError: there is no such file, it can't be read, it is no audio, it is empty, or it
            ends before its header says so.
    """
    _refuse_pipe(path)
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            header = Header(frames=file.frames, rate=file.samplerate, channels=file.channels)
            if header.frames <= 0:
                raise DataError(f"{path}: no samples in it")
            _require_rate(path, header.rate)
            _require_whole(path, file.extra_info)
            _go_to(file, header.frames - 1)
            last = file.read(1, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise DataError(_why(path, error)) from None
    if len(last) == 0:
        raise DataError(f"{path}: ends before the {header.duration_s:.2f} s of its header")
    return header


def read_audio(utterance: Utterance, *, channel: int | None = None) -> Waveform:
    """The waveform of one utterance, from its offset, for its duration, at 16 kHz mono.

    One channel, or the average of all, is resampled.

    Raises:
        DataError: missing, unreadable, corrupt, shorter than the manifest says, empty, or not
            finite; the message names the id and the path.
    """
    try:
        samples, rate = _decode(utterance)
        wav = to_mono_16k(samples if channel is None else samples[:, [channel]], rate)
        if len(wav) == 0:
            raise DataError(f"{utterance.path}: {len(samples)} samples at {rate} Hz are too few")
    except DataError as error:
        raise DataError(f"utterance {utterance.id!r}: {error}") from None
    return wav


def is_silent(wav: Waveform) -> bool:
    """Whether there is nothing to hear in it (SILENCE)."""
    return float(np.abs(wav).max(initial=0.0)) < SILENCE


def to_mono_16k(samples: npt.NDArray[np.float32], rate: int) -> Waveform:
    """Average the channels of (samples, channels), then resample to SAMPLE_RATE."""
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return np.ascontiguousarray(mono, dtype=np.float32)


def _decode(utterance: Utterance) -> tuple[npt.NDArray[np.float32], int]:
    """(samples, channels) as the file has them, and its rate."""
    path = utterance.path
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate = int(file.samplerate)
            _require_rate(path, rate)
            start = round(utterance.offset_s * rate)
            wanted = round(utterance.duration_s * rate)
            if start < 0 or wanted <= 0:
                raise DataError(
                    f"{path}: offset {utterance.offset_s} s and duration {utterance.duration_s} s "
                    "hold no samples; prepare the manifest again"
                )
            if start > 0:
                _go_to(file, min(start, file.frames))
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(_why(path, error)) from None
    if len(samples) < wanted - MISSING_TOLERANCE_S * rate or len(samples) == 0:
        end = (start + len(samples)) / rate
        raise DataError(
            f"{path}: ends at {end:.2f} s, but the manifest says "
            f"{utterance.offset_s + utterance.duration_s:.2f} s (truncated file?)"
        )
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: samples that are not finite (NaN or infinity)")
    return samples, rate


def _refuse_pipe(path: Path) -> None:
    """To open one may take for ever; devices never end."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # to be told why it can't be opened
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path}: no regular file")


def _go_to(file: soundfile.SoundFile, frame: int) -> None:
    """From the file's beginning; some codecs (GSM 6.10, G.72x, NMS ADPCM) can only be read on."""
    if file.seekable():
        file.seek(frame)
        return
    while frame > 0:
        block = len(file.read(min(frame, _BLOCK), dtype="float32"))
        if block == 0:
            return
        frame -= block


def _require_whole(path: Path, log: str) -> None:
    found = _SIZES.search(log)
    if found is None:
        return
    promised, there = int(found[1]), int(found[2])
    if there < promised < _STREAM_BYTES:
        raise DataError(
            f"{path}: {there} of the {promised} bytes of samples that its header promises: copy "
            "it again, or write what is left of it anew"
        )


def _require_rate(path: Path, rate: int) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DataError(f"{path}: its header says {rate} Hz, so it is damaged; write it anew")


def _why(path: Path, error: soundfile.LibsndfileError) -> str:
    """One line for a failed open or decode; libsndfile says `System error` for a missing file."""
    try:
        size = path.stat().st_size
        path.open("rb").close()
    except OSError as problem:
        return f"{path}: {problem.strerror}"
    if size == 0:
        return f"{path}: the file is empty (0 bytes)"
    return f"{path}: corrupt or not an audio file ({error.error_string.rstrip('.')})"


def encode_flac(samples: Waveform) -> bytes:
    """A 16 kHz mono 16-bit FLAC file; the same samples give the same bytes."""
    memory = io.BytesIO()
    soundfile.write(memory, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return memory.getvalue()
