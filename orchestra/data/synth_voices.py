"""Who speaks in which split: accents, voice variants, speeds, noise.

No variant is in two splits. Variants with a `breath` line (f2, f3, f5, Storm, whisper ...) are left
out: eSpeak NG 1.52 reads uninitialised memory for them, so they never sound the same twice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """How the speakers of a split sound; every pair is a range to draw from."""

    accents: tuple[str, ...]  # eSpeak languages
    variants: tuple[str, ...]  # eSpeak voice variants, this split's own
    words_per_minute: tuple[int, int]
    pitch: tuple[int, int]
    snr_db: tuple[float, float]  # speech over background noise
    level_db: tuple[float, float]  # RMS of the speech below full scale


_CLEAN_ACCENTS = ("en-us", "en")  # American, British

STYLES = {
    "train-clean-100": Style(
        accents=_CLEAN_ACCENTS,
        variants=(
            *("m1", "f1", "m2", "f4", "m3", "aunty", "m5", "m6", "m8", "Alex", "linda", "Andy"),
            *("Gene", "zac", "Lee", "Michael", "edward", "steph", "john", "quincy"),
        ),
        words_per_minute=(175, 230),
        pitch=(30, 70),
        snr_db=(15.0, 45.0),
        level_db=(-32.0, -16.0),
    ),
    "dev-clean": Style(
        accents=_CLEAN_ACCENTS,
        variants=("shelby", "Denis", "Mario", "david", "Nguyen"),
        words_per_minute=(175, 230),
        pitch=(35, 65),
        snr_db=(20.0, 45.0),
        level_db=(-30.0, -18.0),
    ),
    "test-clean": Style(
        accents=_CLEAN_ACCENTS,
        variants=("m4", "Annie", "m7", "belinda", "Mike", "Diogo", "robert", "max"),
        words_per_minute=(175, 230),
        pitch=(35, 65),
        snr_db=(20.0, 45.0),
        level_db=(-30.0, -18.0),
    ),
    "test-other": Style(
        accents=("en-gb-scotland", "en-us-nyc", "en-029"),
        variants=("grandma", "grandpa", "croak", "klatt2", "Tweaky", "rob"),
        words_per_minute=(200, 260),
        pitch=(20, 80),
        snr_db=(6.0, 18.0),
        level_db=(-38.0, -12.0),
    ),
}


def speaker_voice(split: str, speaker: int) -> str:
    """The eSpeak voice of the split's speaker number `speaker` (from 0)."""
    style = STYLES[split]
    cycle, variant = divmod(speaker, len(style.variants))
    accent = style.accents[(cycle + variant) % len(style.accents)]
    return f"{accent}+{style.variants[variant]}"
