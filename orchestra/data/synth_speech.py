"""One chapter of the spoken corpus: plan its utterances, speak them, put them on disk as a whole.

Everything follows from (seed, split, chapter): no state, no order between chapters. `write_chapter`
wants a process in which eSpeak has not spoken yet.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import Waveform, encode_flac
from orchestra.data.owned import PARTIAL_PREFIX
from orchestra.data.synth_espeak import Espeak, EspeakFiles, Voice
from orchestra.data.synth_sentences import sentence_for
from orchestra.data.synth_voices import STYLES, speaker_voice

LONG_S = (14.0, 19.0)
"""About how long the few long utterances shall be."""


@dataclass(frozen=True)
class Amount:
    """How much of a split is spoken."""

    speakers: int
    chapters: int  # per speaker
    utterances: int  # per chapter
    long_every: int  # each n-th utterance of the split is a long one


@dataclass(frozen=True)
class Chapter:
    """Some utterances of one speaker."""

    seed: int
    split: str
    speaker: int  # number within the split, from 0
    number: int  # number within the split, from 0
    amount: Amount

    @property
    def speaker_id(self) -> str:
        return str(1000 * (1 + list(STYLES).index(self.split)) + self.speaker)

    @property
    def chapter_id(self) -> str:
        return str(100_000 * (1 + list(STYLES).index(self.split)) + self.number)

    @property
    def prefix(self) -> str:
        return f"{self.speaker_id}-{self.chapter_id}"

    @property
    def folder(self) -> Path:
        """Relative to the corpus."""
        return Path(self.split, self.speaker_id, self.chapter_id)

    def file_names(self) -> list[str]:
        """All files of the chapter folder."""
        audio = [f"{self.prefix}-{i:04d}.flac" for i in range(self.amount.utterances)]
        return [*audio, f"{self.prefix}.trans.txt"]


@dataclass(frozen=True)
class Utterance:
    """What shall be said, and how."""

    sentences: tuple[str, ...]  # each belongs to the split
    voice: Voice
    pad_s: tuple[float, float]  # before and after
    snr_db: float
    noise_slope: float  # noise power falls by f ** -slope: 0 white, 1 pink
    level_db: float
    noise_seed: int

    @property
    def transcript(self) -> str:
        return " ".join(self.sentences).upper()


def chapters_of(seed: int, split: str, amount: Amount) -> list[Chapter]:
    """All chapters of a split."""
    return [
        Chapter(seed, split, speaker, speaker * amount.chapters + chapter, amount)
        for speaker in range(amount.speakers)
        for chapter in range(amount.chapters)
    ]


def plan_utterance(chapter: Chapter, position: int) -> Utterance:
    """The utterance at `position` of the chapter, from (seed, split, its index in the split)."""
    index = chapter.number * chapter.amount.utterances + position
    rng = random.Random(f"{chapter.seed}/{chapter.split}/{index}")
    style = STYLES[chapter.split]
    words_per_minute = rng.randint(*style.words_per_minute)
    sentences = [sentence_for(chapter.split, rng)]
    if index % chapter.amount.long_every == chapter.amount.long_every - 1:
        words = rng.uniform(*LONG_S) * words_per_minute / 60
        while len(" ".join(sentences).split()) < words:
            sentences.append(sentence_for(chapter.split, rng))
    return Utterance(
        sentences=tuple(sentences),
        voice=Voice(
            name=speaker_voice(chapter.split, chapter.speaker),
            words_per_minute=words_per_minute,
            pitch=rng.randint(*style.pitch),
            pitch_range=rng.randint(30, 70),
        ),
        pad_s=(rng.uniform(0.08, 0.25), rng.uniform(0.08, 0.25)),
        snr_db=rng.uniform(*style.snr_db),
        noise_slope=rng.uniform(0.0, 1.2),
        level_db=rng.uniform(*style.level_db),
        noise_seed=rng.getrandbits(64),
    )


def write_chapter(root: Path, chapter: Chapter, espeak: EspeakFiles) -> None:
    """Speak all utterances and rename the finished folder into place.

    Raises:
        OrchestraError: eSpeak refused something.
        OSError: the disk did.
    """
    final = root / chapter.folder
    partial = root / f"{PARTIAL_PREFIX}{chapter.prefix}"
    partial.mkdir()
    engine = Espeak(espeak)
    lines = []
    for position in range(chapter.amount.utterances):
        utterance = plan_utterance(chapter, position)
        name = f"{chapter.prefix}-{position:04d}"
        (partial / f"{name}.flac").write_bytes(encode_flac(_render(engine, utterance)))
        lines.append(f"{name} {utterance.transcript}\n")
    (partial / f"{chapter.prefix}.trans.txt").write_text("".join(lines), encoding="utf-8")
    if final.exists():
        shutil.rmtree(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(final)  # the commit: a chapter folder is whole or not there


def _render(engine: Espeak, utterance: Utterance) -> Waveform:
    """The utterance at 16 kHz with silence around it, at its level, in its noise."""
    spoken = engine.say(". ".join(utterance.sentences), utterance.voice)
    speech = soxr.resample(spoken, engine.rate, SAMPLE_RATE)
    before, after = (round(s * SAMPLE_RATE) for s in utterance.pad_s)
    padded = np.pad(speech, (before, after)).astype(np.float64)
    padded *= _amplitude(utterance.level_db) / _rms(speech)
    noise = _noise(len(padded), utterance.noise_slope, utterance.noise_seed)
    noise *= _amplitude(utterance.level_db - utterance.snr_db)
    mixed = padded + noise
    mixed /= max(1.0, np.abs(mixed).max() / 0.98)  # never clip
    return mixed.astype(np.float32)


def _noise(samples: int, slope: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Noise of RMS 1 whose power falls with frequency by f ** -slope."""
    white = np.random.default_rng(seed).standard_normal(samples)
    spectrum = np.fft.rfft(white)
    bins = np.arange(1, len(spectrum) + 1)
    coloured = np.fft.irfft(spectrum * bins ** (-slope / 2), n=samples)
    return np.asarray(coloured / _rms(coloured), dtype=np.float64)


def _rms(samples: np.ndarray[tuple[int], np.dtype[np.floating]]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _amplitude(db: float) -> float:
    return float(10 ** (db / 20))
