"""Diarization: permutation-invariant loss, turns, Kaldi folders, chunks."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.signal import medfilt

from orchestra.config.schema import DataConfig
from orchestra.tasks import Batch, find_task
from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import Utterance, write_manifest
from tasks.sd import tiny
from tasks.sd.config import Config
from tasks.sd.head import Head, frame_labels, permutation_invariant_loss
from tasks.sd.prepare import chunks, prepare
from tasks.sd.task import Task
from tasks.sd.turns import median_filter, turns_from_frames
from tests.tasks.training import UNTRAINED, kinds_of, prepare_tiny, train_here

DIM, STRIDE = 6, 160
LENGTHS = [60, 25, 40, 48]
TURNS: list[list[list[Any]]] = [
    [["ann", 0.0, 0.3], ["bob", 0.2, 0.55], ["ann", 0.5, 0.6]],
    [["cy", 0.05, 0.2]],
    [],
    [["bob", 0.0, 0.48], ["ann", 0.1, 0.2]],
]


def utterance(number: int, turns: Any = None, seconds: float = 0.6) -> Utterance:
    fields = {} if turns is None else {"turns": turns}
    return Utterance(f"utt-{number}", Path("x.wav"), 0.0, seconds, fields)


@pytest.fixture
def task() -> Task:
    return Task(Config(hidden=8, median_frames=3), DataConfig())


@pytest.fixture
def head(task: Task) -> Head:
    torch.manual_seed(0)
    made = task.build_head(DIM, STRIDE)
    assert isinstance(made, Head)
    # Larger weights than the initial ones: else nobody ever speaks. Garbage makes all speak.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
        behind = made(torch.full((1, 9, DIM), 1e3))[0, -1]
        made.output.weight.mul_(behind.sign()[:, None])
        made.output.bias.zero_()
    return made


def batch_of(task: Task, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Features, lengths and batch of some of four recordings; padding is garbage."""
    utterances = [utterance(row, TURNS[row]) for row in rows]
    lengths = torch.tensor([LENGTHS[row] for row in rows])
    features = torch.full((len(rows), int(lengths.max()), DIM), 1e3)
    for place, row in enumerate(rows):
        own = torch.randn(LENGTHS[row], DIM, generator=torch.Generator().manual_seed(row))
        features[place, : LENGTHS[row]] = own
    targets = task.collate([task.target(each) for each in utterances])
    ids = [each.id for each in utterances]
    wavs = torch.zeros(len(rows), 1)
    return features, lengths, Batch(ids, wavs, lengths * STRIDE, targets, rows, utterances)


def test_loss_of_a_batch_is_the_sum_of_its_recordings(task: Task, head: Any) -> None:
    together = task.loss(head, *batch_of(task, [0, 1, 2, 3]))
    singles = [task.loss(head, *batch_of(task, [row])) for row in range(4)]
    assert together.weight == sum(LENGTHS)
    torch.testing.assert_close(together.sum, torch.stack([each.sum for each in singles]).sum())


def test_turns_are_independent_of_batch_and_padding(task: Task, head: Any) -> None:
    together = task.predict(head, *batch_of(task, [0, 1, 2, 3]))
    singles = [record for row in range(4) for record in task.predict(head, *batch_of(task, [row]))]
    assert together == singles
    features, lengths, _ = batch_of(task, [0, 1])
    assert (head(features)[1, lengths[1] + 2 :] > 0).all()  # which would be heard as speech
    assert all(record["turns"] for record in together)
    assert len({str(record["turns"]) for record in together}) == 4


def test_the_loss_is_that_of_the_best_order_written_out() -> None:
    torch.manual_seed(1)
    logits, lengths = torch.randn(3, 9, 3), torch.tensor([9, 4, 7])
    labels = torch.randint(0, 2, (3, 9, 3)).float()
    losses = permutation_invariant_loss(logits, labels, lengths)
    for row, frames in enumerate(lengths.tolist()):
        expected = min(
            F.binary_cross_entropy_with_logits(
                logits[row, :frames][:, list(order)], labels[row, :frames], reduction="sum"
            )
            for order in permutations(range(3))
        )
        torch.testing.assert_close(losses[row], expected / 3)


def test_the_names_of_the_speakers_do_not_matter(task: Task, head: Any) -> None:
    features, lengths, batch = batch_of(task, [0])
    swapped = [[{"ann": "zoe", "bob": "abe"}[name], start, end] for name, start, end in TURNS[0]]
    targets = task.collate([task.target(utterance(0, swapped))])
    assert not torch.equal(targets["turns"], batch.targets["turns"])
    other = Batch(batch.ids, batch.wavs, batch.lengths, targets, [0], batch.utterances)
    torch.testing.assert_close(
        task.loss(head, features, lengths, batch).sum, task.loss(head, features, lengths, other).sum
    )


def test_outputs_are_what_the_loss_was_computed_from(task: Task, head: Any) -> None:
    features, lengths, batch = batch_of(task, [0, 1])
    outputs = task.loss(head, features, lengths, batch).outputs
    assert outputs is not None
    assert outputs.weights.sum() == pytest.approx(sum(lengths.tolist()))
    speaks = outputs.logits.softmax(-1)[..., 1]
    torch.testing.assert_close(speaks, head(features).sigmoid())


def test_labels_are_turns_rounded_to_frames() -> None:
    turns = torch.tensor([[[0, 0, 400], [1, 240, 810], [0, 700, 960], [-1, -1, -1]]])
    labels = frame_labels(turns, speakers=2, frames=7, stride=160)
    assert labels[0, :, 0].tolist() == [1, 1, 0, 0, 1, 1, 0]
    assert labels[0, :, 1].tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_a_batch_in_which_nobody_speaks_can_be_trained_on(task: Task, head: Any) -> None:
    terms = task.loss(head, *batch_of(task, [2]))
    assert torch.isfinite(terms.sum) and terms.sum > 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 11]))
def test_the_median_filter_is_scipys(seed: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    active = draw.random((int(draw.integers(11, 40)), 2)) < 0.5
    expected = [medfilt(speaker.astype(float), width) for speaker in active.T]
    assert np.array_equal(median_filter(active, width).T, expected)


def test_turns_begin_and_end_with_their_frames_and_the_last_frame_lasts_to_the_end() -> None:
    active = np.array([[1, 0], [1, 1], [0, 1], [1, 1]], dtype=bool)
    turns = turns_from_frames(active, stride=160, samples=900)
    assert turns == [("1", 0.0, 0.02), ("2", 0.01, 900 / 16000), ("1", 0.03, 900 / 16000)]


def test_records_carry_turns_and_what_they_are_compared_to(task: Task, head: Head) -> None:
    features, lengths, batch = batch_of(task, [0, 1])
    records = task.predict(head, features, lengths, batch)
    assert set(records[0]) == {"id", "duration_s", "turns"}
    assert task.score(records) == {}
    referred = [
        task.refer(record, utterance(row, TURNS[row])) for row, record in enumerate(records)
    ]
    metrics = task.score(referred)
    assert set(task.metrics) <= set(metrics)
    assert metrics["speech_s"] == pytest.approx(0.3 + 0.35 + 0.1 + 0.15)
    parts = metrics["miss"] + metrics["false_alarm"] + metrics["confusion"]
    assert metrics["der"] == pytest.approx(parts)
    perfect = task.refer(
        {"id": "utt-0", "turns": TURNS[0], "duration_s": 0.6}, utterance(0, TURNS[0])
    )
    assert task.score([perfect])["der"] == 0
    assert task.score([perfect])["frame_accuracy"] == 100
    silent = task.refer({"id": "utt-2", "turns": [], "duration_s": 0.6}, utterance(2, []))
    with pytest.raises(DataError, match="nobody speaks in the whole split"):
        task.score([silent])


def test_a_recording_without_turns_is_predicted_but_not_trained_on(task: Task, head: Any) -> None:
    features, lengths, batch = batch_of(task, [0])
    bare = Batch(batch.ids, batch.wavs, batch.lengths, {}, [0], [utterance(0)])
    assert task.collate([task.target(utterance(0))]) == {}
    with pytest.raises(DataError, match="utt-0 has no turns"):
        task.loss(head, features, lengths, bare)


def split_of(folder: Path, *turns: Any, **config: Any) -> Task:
    lines = [
        {"id": f"r{number}", "path": "x.wav", "duration_s": 1.0}
        | ({} if own is None else {"turns": own})
        for number, own in enumerate(turns)
    ]
    write_manifest(folder, "train", lines, "a test")
    return Task(Config(**config), DataConfig(manifests=folder))


def test_turns_that_cannot_be_used_are_refused_when_read(tmp_path: Path) -> None:
    assert len(split_of(tmp_path, [["a", 0.0, 1.0]], []).utterances("train")) == 2
    assert len(split_of(tmp_path, None, None).utterances("train")) == 2
    with pytest.raises(DataError, match=r"'train': 1 of 2 recordings have no turns, r1"):
        split_of(tmp_path, [], None).utterances("train")
    for broken in ([["a", 0.5, 0.5]], [["a", 0.5, 1.2]], [["a", 0.1]], [["a", "x", 1.0]], 7):
        with pytest.raises(DataError, match=r"utterance r0: .* is no turn"):
            split_of(tmp_path, broken).utterances("train")
    with pytest.raises(DataError, match=r"split 'train': nobody speaks in any of its 2"):
        split_of(tmp_path, [], []).utterances("train")


def test_more_speakers_than_outputs_are_refused_for_training(tmp_path: Path) -> None:
    three = [["a", 0.0, 0.1], ["b", 0.0, 0.1], ["c", 0.0, 0.1]]
    with pytest.raises(DataError, match=r"utterance r0 has 3 speakers, but task\.speakers = 2"):
        split_of(tmp_path, three).utterances("train")
    assert split_of(tmp_path, three, speakers=3).utterances("train")


def test_a_median_of_an_even_width_is_refused() -> None:
    with pytest.raises(ValidationError, match="odd"):
        Config(median_frames=10)


# ---- Kaldi folders


def write_split(root: Path, split: str, **files: str) -> Path:
    """A Kaldi folder with recordings r1 (1 s) and r2 (0.5 s)."""
    folder = root / split
    folder.mkdir(parents=True)
    for name, seconds in (("r1", 1.0), ("r2", 0.5)):
        samples = np.random.default_rng(0).normal(0, 0.1, round(16_000 * seconds))
        soundfile.write(folder / f"{name}.wav", samples, 16_000)
    texts = {"wav.scp": f"r1 {split}/r1.wav\nr2 {folder}/r2.wav\n", **files}
    for name, text in texts.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text)
    return folder


RTTM = """;; a comment
SPKR-INFO r1 1 <NA> <NA> <NA> unknown ann <NA>
SPEAKER r1 1 0.100 0.500 <NA> <NA> ann <NA> <NA>
SPEAKER r1 1 0.500 0.505 <NA> <NA> bob <NA> <NA>
SPEAKER r2 1 0.0 0.25 <NA> <NA> bob
"""


def test_rttm_and_segments_give_the_same_turns(tmp_path: Path) -> None:
    write_split(tmp_path, "dev", rttm=RTTM)
    segments = "u1 r1 0.1 0.6\nu2 r1 0.5 1.005\nu3 r2 0 0.25\n"
    write_split(tmp_path, "test", segments=segments, utt2spk="u1 ann\nu2 bob\nu3 bob\n")
    prepared = prepare(tmp_path, tmp_path / "manifests")
    assert prepared.problems == []
    dev, test = prepared.splits["dev"], prepared.splits["test"]
    # 1.005 s is within what files may be short of: it is cut to the recording's end.
    assert dev[0]["turns"] == [["ann", 0.1, 0.6], ["bob", 0.5, 1.0]]
    assert [line["turns"] for line in dev] == [line["turns"] for line in test]
    assert (dev[0]["id"], dev[0]["path"], dev[0]["duration_s"]) == ("r1", "../dev/r1.wav", 1.0)


def test_malformed_lines_are_told_with_file_and_line(tmp_path: Path) -> None:
    lines = (
        "SPEAKER r1 1 0.1 0.5",
        "SPEAKER r1 1 x 0.5 <NA> <NA> ann",
        "SPEAKER r1 1 0.1 0 <NA> <NA> ann",
        "SPEAKER r1 1 nan 0.1 <NA> <NA> ann",
        "speaker r1 1 0.1 0.5 <NA> <NA> ann",
    )
    folder = write_split(tmp_path, "dev", rttm=RTTM + "\n".join(lines))
    places = kinds_of(prepare(tmp_path, tmp_path))["malformed lines"]
    assert [place.split(": ")[0] for place in places] == [
        f"{folder}/rttm, line {number}" for number in range(6, 11)
    ]


def test_what_is_wrong_with_turns_is_told_with_file_and_line(tmp_path: Path) -> None:
    rttm = (
        "SPEAKER r1 1 0.5 0.6 <NA> <NA> ann\n"
        "SPEAKER r1 1 1.0 0.01 <NA> <NA> ann\n"
        "SPEAKER r3 1 0.5 0.6 <NA> <NA> ann\n"
    )
    folder = write_split(tmp_path, "dev", rttm=rttm)
    places = kinds_of(prepare(tmp_path, tmp_path))
    beyond = places["turns beyond the end of their recording"]
    assert [place.split(": ")[0] for place in beyond] == [
        f"{folder}/rttm, line 1",
        f"{folder}/rttm, line 2",
    ]
    assert places["turns of an unknown recording"] == [f"{folder}/rttm, line 3 (r3)"]
    assert places["recordings without a turn"] == [f"r2 ({folder}/wav.scp)"]


def test_segments_need_speakers(tmp_path: Path) -> None:
    folder = write_split(tmp_path, "dev", segments="u1 r1 0 1\nu2 r2 0 0.5\n", utt2spk="u1 ann\n")
    places = kinds_of(prepare(tmp_path, tmp_path))
    assert places["utterances without a speaker"] == [f"{folder}/segments, line 2: u2"]
    (folder / "utt2spk").unlink()
    assert kinds_of(prepare(tmp_path, tmp_path))["folders without turns"] == [
        f"{folder}: no rttm, and no utt2spk"
    ]


def test_wav_scp_runs_nothing(tmp_path: Path) -> None:
    scp = "r1 touch evil |\nr2\nr3 no.wav\nr3 no.wav\n"
    folder = write_split(tmp_path, "dev", wav_scp=scp, rttm="")
    places = kinds_of(prepare(tmp_path, tmp_path))
    (command,) = places["commands in wav.scp, which are not run"]
    assert command.startswith(f"{folder}/wav.scp, line 1")
    assert places["malformed lines"] == [f"{folder}/wav.scp, line 2: 'r2'"]
    assert places["recordings that stand twice"] == [f"{folder}/wav.scp, line 4: r3"]
    assert "no.wav" in places["unreadable recordings"][0]


def test_a_folder_without_kaldi_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no Kaldi folder in .*wav\.scp and rttm"):
        prepare(tmp_path, tmp_path)


def test_training_recordings_are_cut_and_no_turn_is_lost() -> None:
    turns = [("ann", 1.0, 25.0), ("bob", 19.0, 20.0), ("ann", 39.5, 45.05)]
    lines = chunks("r", turns, 45.05)
    assert [(line["id"], line["offset_s"]) for line in lines] == [
        ("r-0000", 0.0),
        ("r-0001", 20.0),
        ("r-0002", 40.0),
    ]
    assert [line["turns"] for line in lines] == [
        [["ann", 1.0, 20.0], ["bob", 19.0, 20.0]],
        [["ann", 0.0, 5.0], ["ann", 19.5, 20.0]],
        [["ann", 0.0, 5.05]],
    ]
    assert [line["id"] for line in chunks("r", turns[:2], 20.0)] == ["r"]
    assert len(chunks("r", turns, 60.05)) == 3  # the rest is too short for a frame


def test_the_tiny_corpus_is_the_same_again_and_reads_without_problems(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tiny.make(tmp_path / name, 1, {"train": 2, "dev": 1})
    prepared = prepare(tmp_path / "one", tmp_path)
    assert prepared.problems == []
    assert len(prepared.splits["train"]) == 3  # the first is a long one
    for path in (tmp_path / "one").rglob("*.*"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes()


def test_is_found_by_its_name_and_by_s3prls(tmp_path: Path) -> None:
    info = find_task("diarization", tmp_path)
    assert info.name == "sd"
    assert info.summary().startswith("speaker diarization")
    assert info.config_model()().model_dump() == Config(speakers=2, hidden=512).model_dump()


@pytest.mark.tasks
def test_it_learns_who_speaks_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's score: at most half of an untrained model's error rate."""
    manifests = prepare_tiny("libri2mix", tmp_path / "corpus")
    untrained = train_here(
        "sd", "sd-tiny", manifests, tmp_path / "untrained", monkeypatch, *UNTRAINED
    )
    trained = train_here("sd", "sd-tiny", manifests, tmp_path / "trained", monkeypatch)
    assert trained.metrics["der"] <= untrained.metrics["der"] / 2
