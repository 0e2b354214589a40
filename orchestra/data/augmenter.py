"""Augments training audio as `augment` of the config says: speed, room, noise, crop, in this order.

A speaker speaks at a speed, in a room, beside noise that was recorded in its own place: hence the
room before the noise, and the signal-to-noise ratio is that of what is heard. The crop comes last,
so that it is exactly as long as it should be and begins in the reverberation of what was said
before it.

What is drawn follows from the utterance's seed alone, each part from a key of its own: switching
one off changes nothing in the others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from orchestra.config.schema import AugmentConfig
from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import Waveform, is_silent, read_audio
from orchestra.data.augment import add_noise, change_speed, crop, reverberate
from orchestra.data.keyed import keyed
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance, read_manifest

_NOISE, _RIR = "augment.noise", "augment.rir"
_NAMED = 3
"""Missing files that a message names."""


@dataclass(frozen=True)
class Augmenter:
    """Made by `load`, once per process."""

    config: AugmentConfig
    noises: Sequence[Utterance] = ()
    impulses: Sequence[Utterance] = ()

    @classmethod
    def load(cls, config: AugmentConfig) -> Augmenter:
        """With what the manifests list.

        Raises:
            NotFoundError, DataError: a manifest is missing, empty or broken, or a file that it
                names is not there.
        """
        found = {key: _recordings(key, path) for key, path in config.manifests().items()}
        return cls(config, noises=found.get(_NOISE, ()), impulses=found.get(_RIR, ()))

    def at_its_longest(self) -> Augmenter:
        """The same, but every utterance gets the slowest speed: for measuring memory."""
        speed = self.config.speed
        if speed is None:
            return self
        slowest = speed.model_copy(update={"factors": [min(speed.factors)]})
        return replace(self, config=self.config.model_copy(update={"speed": slowest}))

    def augment(self, wav: Waveform, seed: int) -> Waveform:
        """What this epoch hears of an utterance.

        Args:
            seed: keyed(run seed, "augment", epoch, id), as `Batch.seeds` has it.

        Raises:
            DataError: a noise or an impulse response can't be read or is silent.
        """
        speed, rir, noise = self.config.speed, self.config.rir, self.config.noise
        if speed is not None:
            wav = change_speed(wav, _draw(seed, "speed").choice(speed.factors))
        if rir is not None:
            draw = _draw(seed, "rir")
            if draw.random() < rir.probability:
                wav = reverberate(wav, _impulse(draw.choice(self.impulses)))
        if noise is not None:
            draw = _draw(seed, "noise")
            if draw.random() < noise.probability:
                snr_db = draw.uniform(*noise.snr_db)
                recording = draw.choice(self.noises)
                wav = add_noise(wav, _part(recording, len(wav), draw.random()), snr_db)
        if self.config.crop_s:
            samples = max(round(self.config.crop_s * SAMPLE_RATE), 1)
            wav = crop(wav, samples, _draw(seed, "crop").random())
        return wav


def _draw(seed: int, part: str) -> random.Random:
    return random.Random(keyed(seed, part))


def _recordings(key: str, manifest: Path) -> Sequence[Utterance]:
    """What a manifest lists, all of it there (NotFoundError, DataError)."""
    recordings = read_manifest(manifest.parent, manifest.stem)
    if not recordings:
        raise DataError(f"{key}.manifest: {manifest} lists no recordings")
    missing = [str(one.path) for one in recordings if not one.path.is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise DataError(
            f"{key}.manifest: {manifest} lists {len(missing)} files that don't exist: "
            f"{', '.join(missing[:_NAMED])}{more}"
        )
    return recordings


def _impulse(recording: Utterance) -> Waveform:
    """Of an array of microphones the first: averaged, their direct sounds would blur."""
    impulse = _read(_RIR, recording, channel=0)
    if not impulse.any():
        raise _silent(_RIR, recording)
    return impulse


def _part(recording: Utterance, samples: int, place: float) -> Waveform:
    """So much of a noise from a place in [0, 1); all of it, begun there, if it is shorter.

    A stretch of silence can't be brought to a ratio: then the noise begins at its loudest sample.
    """
    seconds = samples / SAMPLE_RATE
    spare_s = recording.duration_s - seconds
    if spare_s > 0:
        start_s = recording.offset_s + place * spare_s
        part = _read(_NOISE, replace(recording, offset_s=start_s, duration_s=seconds))
        if not is_silent(part):
            return part
        place = 0.0
    whole = _read(_NOISE, recording)
    if is_silent(whole):
        raise _silent(_NOISE, recording)
    turned = np.roll(whole, -int(place * len(whole)))
    if not is_silent(turned[:samples]):
        return turned[:samples]
    return np.roll(whole, -int(np.abs(whole).argmax()))[:samples]


def _read(key: str, recording: Utterance, *, channel: int | None = None) -> Waveform:
    try:
        return read_audio(recording, channel=channel)
    except DataError as error:
        raise DataError(f"{key}.manifest: {error}") from None


def _silent(key: str, recording: Utterance) -> DataError:
    return DataError(
        f"{key}.manifest: utterance {recording.id!r}: {recording.path} is silent; take it out"
    )
