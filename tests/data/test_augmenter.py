"""Augmentation from manifests: what is drawn, from what, in which order, and what can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.config.schema import AugmentConfig
from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import is_silent
from orchestra.data.augment import power
from orchestra.data.augmenter import Augmenter
from orchestra.wire.errors import DataError, NotFoundError, OrchestraError
from orchestra.wire.manifest import write_manifest

WAV = np.random.default_rng(5).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    samples = round(seconds * SAMPLE_RATE)
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def manifest(folder: Path, recordings: dict[str, np.ndarray], split: str = "noise") -> Path:
    rows = []
    for name, samples in recordings.items():
        soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE, subtype="FLOAT")
        duration_s = len(samples) / SAMPLE_RATE
        rows.append({"id": name, "path": f"{name}.wav", "duration_s": duration_s})
    write_manifest(folder, split, rows, "a test")
    return folder / f"{split}.jsonl"


def augmenter(**tables: Any) -> Augmenter:
    return Augmenter.load(AugmentConfig.model_validate(tables, strict=False))


def added(made: Augmenter, seed: int, wav: np.ndarray = WAV) -> np.ndarray:
    return made.augment(wav, seed) - wav


def test_nothing_configured_changes_nothing() -> None:
    assert augmenter().augment(WAV, 1) is WAV


def test_noises_ratios_and_places_are_drawn_and_the_same_seed_draws_the_same(
    tmp_path: Path,
) -> None:
    path = manifest(tmp_path, {"short": noise(0.1), "long": noise(3.0, 1)})
    made = augmenter(noise={"manifest": path, "snr_db": (3.0, 9.0)})
    drawn = [added(made, seed) for seed in range(30)]
    ratios = [10 * np.log10(power(WAV) / power(one)) for one in drawn]
    assert min(ratios) >= 3 - 1e-3 and max(ratios) <= 9 + 1e-3
    assert max(ratios) - min(ratios) > 3
    period = SAMPLE_RATE // 10
    repeats = [np.allclose(one[:period], one[period : 2 * period], atol=1e-6) for one in drawn]
    assert 5 < sum(repeats) < 25  # the short one, looped
    assert len({one[:50].round(4).tobytes() for one in drawn}) == 30
    assert all(np.array_equal(added(made, seed), drawn[seed]) for seed in range(3))


def test_probabilities_are_shares_of_the_utterances(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"a": noise(0.1)})
    short = WAV[:200]
    made = augmenter(noise={"manifest": path, "probability": 0.3})
    changed = sum(bool(added(made, seed, short).any()) for seed in range(300))
    assert 60 < changed < 120
    never = augmenter(rir={"manifest": path, "probability": 0.0})
    assert not any(added(never, seed, short).any() for seed in range(20))


def test_switching_one_part_off_changes_nothing_in_the_others(tmp_path: Path) -> None:
    path = manifest(tmp_path, {str(n): noise(0.1, n) for n in range(9)})
    table = {"manifest": path, "probability": 0.5}
    alone, both = augmenter(noise=table), augmenter(noise=table, rir={**table, "probability": 0.0})
    assert all(np.array_equal(alone.augment(WAV, s), both.augment(WAV, s)) for s in range(10))


def test_who_gets_a_room_has_no_part_in_who_gets_noise(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"a": noise(0.1)})

    def drawn(key: str) -> list[bool]:
        made = augmenter(**{key: {"manifest": path, "probability": 0.5}})
        return [bool(added(made, seed, WAV[:200]).any()) for seed in range(60)]

    assert len(set(zip(drawn("rir"), drawn("noise"), strict=True))) == 4


def test_the_room_comes_before_the_noise_and_the_crop_after_both(tmp_path: Path) -> None:
    echo = np.zeros(4000, np.float32)
    echo[[0, 3999]] = 1.0, 0.8
    rooms = manifest(tmp_path, {"echo": echo}, "rooms")
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[::500] = 0.5
    noises = manifest(tmp_path, {"click": click})
    made = augmenter(
        rir={"manifest": rooms}, noise={"manifest": noises, "snr_db": (0, 0)}, crop_s=0.25
    )
    room_only = augmenter(rir={"manifest": rooms}).augment(WAV, 4)
    heard = made.augment(WAV, 4)
    assert len(heard) == SAMPLE_RATE // 4
    start = next(
        n
        for n in range(len(WAV) - len(heard) + 1)
        if np.mean(np.abs(heard - room_only[n : n + len(heard)]) < 1e-4) > 0.9
    )
    clicks = np.flatnonzero(np.abs(heard - room_only[start : start + len(heard)]) > 1e-3)
    assert set(np.diff(clicks)) == {500}  # no echo of a click


def test_of_an_array_of_microphones_one_is_heard(tmp_path: Path) -> None:
    path = manifest(tmp_path, {"array": np.zeros(50, np.float32)}, "rooms")
    channels = np.zeros((50, 2), np.float32)
    channels[0, 0], channels[20, 1] = 1.0, 1.0
    soundfile.write(tmp_path / "array.wav", channels, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(added(augmenter(rir={"manifest": path}), 1), 0, atol=1e-6)


def test_a_silent_stretch_of_a_noise_is_not_what_is_added(tmp_path: Path) -> None:
    mostly = np.zeros(5 * SAMPLE_RATE, np.float32)
    mostly[70000:70100] = 0.3
    made = augmenter(noise={"manifest": manifest(tmp_path, {"mostly": mostly})})
    assert not any(is_silent(added(made, seed)) for seed in range(8))


def test_lengths_stay_within_what_was_planned() -> None:
    made = augmenter(speed={"factors": [0.9, 1.1]}, crop_s=1.05)
    lengths = {len(made.augment(WAV, seed)) for seed in range(12)}
    assert lengths == {round(SAMPLE_RATE / 1.1), round(1.05 * SAMPLE_RATE)}
    assert max(lengths) <= made.config.longest_s(1.0) * SAMPLE_RATE
    assert made.config.longest_s(0.5) == pytest.approx(0.5 / 0.9)
    longest = made.at_its_longest()
    assert {len(longest.augment(WAV, seed)) for seed in range(5)} == {round(1.05 * SAMPLE_RATE)}


def silent(folder: Path) -> Path:
    return manifest(folder, {"nothing": np.zeros(SAMPLE_RATE * 2, np.float32)})


def corrupt(folder: Path) -> Path:
    path = manifest(folder, {"broken": noise(0.5)})
    (folder / "broken.wav").write_bytes(b"no audio")
    return path


def gone(folder: Path) -> Path:
    path = manifest(folder, {name: noise(0.1) for name in "abcde"})
    for name in "abcd":
        (folder / f"{name}.wav").unlink()
    return path


@pytest.mark.parametrize("key", ["noise", "rir"])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda folder: folder / "no.jsonl", NotFoundError, r"no manifest of split 'no' in"),
        (lambda folder: manifest(folder, {}), DataError, r"noise\.jsonl lists no recordings"),
        (gone, DataError, r"lists 4 files that don't exist: .*a\.wav, .*c\.wav and 1 more"),
        (silent, DataError, r"utterance 'nothing': .*nothing\.wav is silent; take it out"),
        (corrupt, DataError, r"utterance 'broken': .*broken\.wav: corrupt or not an audio"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said(
    tmp_path: Path, key: str, make: Any, error: type[OrchestraError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        augmenter(**{key: {"manifest": make(tmp_path)}}).augment(WAV, 1)
    if error is DataError:
        assert str(caught.value).startswith(f"augment.{key}.manifest: ")
