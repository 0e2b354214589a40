"""Read diarization data in Kaldi folders, as S3PRL's Libri2Mix recipe makes them, into manifests.

<root>/train, dev, test (or others)/
    wav.scp     "<recording> <path>" lines; relative paths start at <root>
    rttm        NIST's "SPEAKER <recording> <channel> <start_s> <duration_s> ..." lines
  or, where there is no rttm,
    segments    "<utterance> <recording> <start_s> <end_s>" lines
    utt2spk     "<utterance> <speaker>" lines
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from orchestra.data.audio import MISSING_TOLERANCE_S
from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers
from orchestra.wire.errors import NotFoundError

from .kaldi import SourcedTurn, read_rttm, read_segments, read_wav_scp
from .turns import Turn

CORPUS = "libri2mix"
HELP = "diarization data in Kaldi folders (wav.scp and rttm, or segments and utt2spk): Libri2Mix"

CHUNK_S = 20.0
"""Training recordings are cut into pieces of so long: 2,000 frames of 10 ms."""
SHORTEST_CHUNK_S = 0.1
"""A shorter rest is left out: an upstream may need more for its first frame."""


def prepare(root: Path, out: Path) -> Prepared:
    """A split for each Kaldi folder below `root`; those named train* are cut into chunks.

    Raises:
        NotFoundError: there is no Kaldi folder; says what is expected.
    """
    folders = sorted(path.parent for path in root.glob("*/wav.scp"))
    if not folders:
        raise NotFoundError(
            f"no Kaldi folder in {root}: expected train, dev and test, each with wav.scp and rttm "
            "(or segments and utt2spk)"
        )
    problems: list[Problem] = []
    splits = {folder.name: _read_split(folder, root, out, problems) for folder in folders}
    return Prepared(splits, problems)


def _read_split(
    folder: Path, root: Path, out: Path, problems: list[Problem]
) -> list[dict[str, Any]]:
    recordings = read_wav_scp(folder / "wav.scp", root, problems)
    turns = _read_turns(folder, problems)
    headers, unreadable = read_headers(sorted(set(recordings.values())))
    problems += unreadable
    problems += [
        Problem("turns of an unknown recording", f"{turn.source} ({turn.recording})")
        for turn in turns
        if turn.recording not in recordings
    ]
    turns_in: dict[str, list[SourcedTurn]] = defaultdict(list)
    for turn in turns:
        turns_in[turn.recording].append(turn)
    lines = []
    for name, path in sorted(recordings.items()):
        own = turns_in[name]
        if not own:
            problems.append(Problem("recordings without a turn", f"{name} ({folder}/wav.scp)"))
        if path not in headers:
            continue
        duration_s = headers[path].duration_s
        problems += _beyond(own, duration_s)
        place = {"path": os.path.relpath(path, out)}
        within = [(turn.speaker, turn.start_s, min(turn.end_s, duration_s)) for turn in own]
        if folder.name.startswith("train"):
            lines += [{**chunk, **place} for chunk in chunks(name, within, duration_s)]
        else:
            lines.append({**_line(name, 0.0, duration_s, within), **place})
    return lines


def chunks(recording: str, turns: list[Turn], duration_s: float) -> list[dict[str, Any]]:
    """Lines of consecutive pieces of CHUNK_S, without their path; times relative to the piece.

    A recording that fits in one piece keeps its name. A rest shorter than SHORTEST_CHUNK_S is left
    out.
    """
    if duration_s <= CHUNK_S:
        return [_line(recording, 0.0, duration_s, turns)]
    lines = []
    for number in range(-int(-duration_s // CHUNK_S)):
        offset_s = number * CHUNK_S
        length_s = min(duration_s - offset_s, CHUNK_S)
        if length_s >= SHORTEST_CHUNK_S:
            lines.append(_line(f"{recording}-{number:04d}", offset_s, length_s, turns))
    return lines


def _line(name: str, offset_s: float, duration_s: float, turns: list[Turn]) -> dict[str, Any]:
    """A piece of a recording with the turns that reach into it."""
    inside = []
    for speaker, start, end in turns:
        first = round(max(start - offset_s, 0.0), 6)
        last = round(min(end - offset_s, duration_s), 6)
        if first < last:
            inside.append([speaker, first, last])
    return {"id": name, "offset_s": offset_s, "duration_s": duration_s, "turns": inside}


def _read_turns(folder: Path, problems: list[Problem]) -> list[SourcedTurn]:
    """From rttm if it is there, else from segments and utt2spk."""
    if (folder / "rttm").is_file():
        return read_rttm(folder / "rttm", problems)
    missing = [name for name in ("segments", "utt2spk") if not (folder / name).is_file()]
    if missing:
        problems.append(
            Problem(
                "folders without turns", f"{folder}: no rttm, and no {' and no '.join(missing)}"
            )
        )
        return []
    return read_segments(folder / "segments", folder / "utt2spk", problems)


def _beyond(turns: list[SourcedTurn], duration_s: float) -> list[Problem]:
    return [
        Problem(
            "turns beyond the end of their recording",
            f"{turn.source}: ends at {turn.end_s:.3f} s, {turn.recording} at {duration_s:.3f} s",
        )
        for turn in turns
        if turn.end_s > duration_s + MISSING_TOLERANCE_S or turn.start_s >= duration_s
    ]
