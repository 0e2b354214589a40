"""The sf task: Audio SNIPS read, marks learnt, refusals, records, its tiny corpus."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.config.compose import Request, compose
from orchestra.config.schema import DataConfig
from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem
from orchestra.tasklib.ctc_config import SmallHeadConfig, SpecAugmentConfig, SuperbHeadConfig
from orchestra.tasks import Batch, find_task
from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import Utterance, write_manifest
from tasks.sf import tiny
from tasks.sf.config import Config
from tasks.sf.prepare import LABELS, SPEAKERS, Line, normalised, parse_line, prepare, spans
from tasks.sf.task import Task
from tests.tasks.training import prepare_tiny, train_here

SMALL = SmallHeadConfig(frame_ms=20, projection=8, hidden=8)
PLAY = {"text": "PLAY THE BEATLES", "slots": [["artist", 1, 3]]}
RAIN = {"text": "RAIN IN ROME", "slots": [["city", 2, 3]]}


def task_on(folder: Path, lines: list[dict[str, Any]], split: str = "train", **config: Any) -> Task:
    """A task whose split has these labels; nothing is learnt yet."""
    rows = [
        {"id": f"u{number}", "path": "x.wav", "duration_s": 2.0, **line}
        for number, line in enumerate(lines)
    ]
    write_manifest(folder, split, rows, "")
    return Task(Config(head=SMALL, **config), DataConfig(manifests=folder))


def learnt(task: Task) -> Task:
    task.recall(task.learn(task.utterances("train")))
    return task


def test_slots_of_the_training_split_are_learnt(tmp_path: Path) -> None:
    task = task_on(tmp_path, [RAIN, PLAY])
    kept = task.learn(task.utterances("train"))
    assert kept == {"slots": ["artist", "city"]}
    task.recall(kept)
    assert len(task.symbols) == 1 + 28 + 4
    target = task.target(task.utterances("train")[0])
    assert target is not None
    assert target[-1] == 32  # </city>


def test_a_slot_that_training_had_not_is_refused_when_its_split_is_read(tmp_path: Path) -> None:
    task = learnt(task_on(tmp_path, [PLAY]))
    task_on(tmp_path, [PLAY, RAIN], "dev")
    with pytest.raises(DataError, match=r"utterance u1: '</city>', '<city>' did not occur"):
        task.utterances("dev")


def test_a_slot_that_training_had_not_is_refused_as_a_reference(tmp_path: Path) -> None:
    task = learnt(task_on(tmp_path, [PLAY]))
    rain = Utterance("u9", Path("x.wav"), 0.0, 2.0, RAIN)
    with pytest.raises(DataError, match=r"utterance u9: '</city>', '<city>' did not occur"):
        task.refer({"id": "u9", "hyp": "", "hyp_slots": []}, rain)


def test_a_training_split_without_slots_teaches_nothing(tmp_path: Path) -> None:
    task = task_on(tmp_path, [{"text": "PLAY"}])
    with pytest.raises(DataError, match=r"split 'train' has no slots \(text and slots\)"):
        task.learn(task.utterances("train"))


def test_a_split_with_some_references_is_refused(tmp_path: Path) -> None:
    task = task_on(tmp_path, [PLAY, {"text": "PLAY"}])
    with pytest.raises(DataError, match=r"1 \(u1\) of 2 utterances have no slots"):
        task.utterances("train")


def test_an_unknown_character_is_refused_with_its_utterance(tmp_path: Path) -> None:
    task = task_on(tmp_path, [PLAY, {"text": "BJÖRK", "slots": []}])
    with pytest.raises(DataError, match="utterance u1: its transcript has 'Ö'"):
        task.utterances("train")


def test_unknown_characters_may_be_dropped_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [PLAY, {"text": "PLAY BJÖRK", "slots": [["artist", 1, 2]]}]
    task = task_on(tmp_path, lines, unknown_character="drop")
    with caplog.at_level(logging.WARNING):
        utterances = task.utterances("train")
    assert "dropped from 1 of 2 transcripts: u1" in caplog.text
    assert "".join(task.tokens(utterances[1]) or ()) == "PLAY <artist>BJRK</artist>"


def test_records_hold_text_and_slots(tmp_path: Path) -> None:
    task = learnt(task_on(tmp_path, [PLAY, RAIN]))
    head = task.build_head(6, 160).eval()
    utterances = task.utterances("train")
    targets = task.collate([task.target(u) for u in utterances])
    lengths = torch.tensor([30, 20])
    batch = Batch(["u0", "u1"], torch.zeros(2, 1), lengths * 160, targets, [0, 1], utterances)
    records = task.predict(head, torch.randn(2, 30, 6), lengths, batch)
    assert all(set(record) == {"id", "hyp", "hyp_slots"} for record in records)
    referred = task.refer(
        {"id": "u0", "hyp": "PLAY A", "hyp_slots": [["artist", "A"]]}, utterances[0]
    )
    assert referred["ref"] == "PLAY THE BEATLES"
    assert referred["ref_slots"] == [["artist", "THE BEATLES"]]
    metrics = task.score([referred])
    assert set(task.metrics) <= set(metrics)
    assert metrics["slot_type_f1"] == 100
    assert task.score(records) == {}


def test_default_is_superbs(tmp_path: Path) -> None:
    assert Config().head == SuperbHeadConfig(projection=1024, hidden=1024, layers=2, dropout=0.2)
    assert Config().spec_augment == SpecAugmentConfig()
    assert find_task("snips", tmp_path).name == "sf"
    config = compose(Request(workspace=tmp_path, task="sf")).config
    assert (config.optim.kind, config.optim.lr, config.train.max_steps) == ("adam", 1e-4, 200_000)
    assert next(iter(Task.metrics)) == "slot_type_f1"


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("Beyoncé's", ["BEYONCE'S"]),
        ("R&B", ["R", "AND", "B"]),
        ("ØRSTED", ["ORSTED"]),
        ("?", []),
        ("hip-hop", ["HIPHOP"]),
        ("楽園", ["楽園"]),
    ],
)
def test_words_are_normalised(word: str, words: list[str]) -> None:
    assert normalised(word) == words


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O a a O b", [("a", 1, 3), ("b", 4, 5)]),
        ("a b b", [("a", 0, 1), ("b", 1, 3)]),
        ("B-a I-a B-a", [("a", 0, 2), ("a", 2, 3)]),
        ("O O", []),
        ("", []),
    ],
)
def test_slots_are_runs_of_tags(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert list(spans(tags.split())) == found


def test_a_line_of_labels_is_read() -> None:
    line = "Ivy-snips-train-7 BOS PLAY R&B , BY Enya EOS\tO O genre O O artist PlayMusic\n"
    assert parse_line(line) == Line(
        "Ivy-snips-train-7",
        ("PLAY", "R", "AND", "B", "BY", "ENYA"),
        (("genre", 1, 4), ("artist", 5, 6)),
    )


def test_a_word_that_becomes_three_stays_in_its_slot() -> None:
    line = parse_line("Ivy-snips-train-7 BOS R&B R&B EOS\tO B-genre B-genre PlayMusic")
    assert isinstance(line, Line)
    assert line.slots == (("genre", 0, 3), ("genre", 3, 6))


@pytest.fixture(scope="module")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny one, prepared."""
    root = tmp_path_factory.mktemp("snips")
    prepare_tiny("snips", root)
    return root


@pytest.fixture
def corpus(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A few recordings of the test split, with their labels."""
    (tmp_path / "test").mkdir()
    lines = (tiny_corpus / LABELS).read_text().splitlines(keepends=True)
    few = [line for line in lines if "-snips-test-0 " in line]
    for line in few:
        name = f"{line.split()[0]}.wav"
        (tmp_path / "test" / name).symlink_to(tiny_corpus / "test" / name)
    (tmp_path / LABELS).write_text("".join(few))
    return tmp_path


def test_the_corpus_is_read_with_the_speakers_of_each_split(tiny_corpus: Path) -> None:
    splits = prepare(tiny_corpus, tiny_corpus / "manifests").splits
    for split, lines in splits.items():
        assert {line["speaker"] for line in lines} == SPEAKERS[split]
        assert len(lines) == tiny.TEXTS[split] * len(SPEAKERS[split])
    first = splits["test"][0]
    assert {"id", "path", "offset_s", "duration_s", "text", "slots", "speaker"} == set(first)
    assert (tiny_corpus / "manifests" / first["path"]).is_file()


def test_other_speakers_are_left_aside(corpus: Path) -> None:
    for path in list((corpus / "test").iterdir()):
        path.with_name(path.name.replace(path.name.split("-")[0], "Aditi")).write_bytes(b"")
    prepared = prepare(corpus, corpus)
    assert not prepared.problems
    assert {line["speaker"] for line in prepared.splits["test"]} == SPEAKERS["test"]


def problems_of(prepared: Prepared) -> dict[str, str]:
    return {problem.kind: problem.where for problem in prepared.problems}


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("Emma-snips-test-9 BOS A EOS O O X", "malformed lines", "line 5: no tab"),
        ("Emma-snips-test-9 A EOS\tO O X", "malformed lines", "line 5: not an id and words"),
        ("\tO O X", "malformed lines", "line 5: not an id and words"),
        ("Emma-snips-test-9 BOS A B EOS\tO O X", "malformed lines", "2 words, but 1 slots"),
        ("Emma-snips-test-0 BOS A EOS\tO O X", "ids with more than one line", "already in line 2"),
        ("Emma-snips-test-9 BOS ? EOS\tO O X", "lines without a word", "line 5: Emma-snips-test-9"),
        ("Emma-snips-test-9 BOS EOS\tO X", "lines without a word", "line 5: Emma-snips-test-9"),
        (
            "Emma-snips-test-9 BOS A EOS\tO O X",
            f"lines of {LABELS} without a recording",
            "Emma-snips-test-9",
        ),
    ],
)
def test_bad_lines_are_named_with_file_and_line(
    corpus: Path, line: str, kind: str, said: str
) -> None:
    with (corpus / LABELS).open("a") as file:
        file.write(line + "\n")
    problems = problems_of(prepare(corpus, corpus))
    assert said in problems[kind]
    assert len(problems) == 1


def test_a_split_without_a_folder_is_told(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(prepare(corpus, corpus).splits) == {"test"}
    assert f"valid: left aside, there is no folder {corpus / 'valid'}" in capsys.readouterr().err


def test_a_recording_without_labels_or_samples_is_named(corpus: Path) -> None:
    (corpus / "test" / "Emma-snips-test-8.wav").write_bytes(b"")
    assert [problem.kind for problem in prepare(corpus, corpus).problems] == [
        "unreadable recordings",
        f"recordings without a line in {LABELS}",
    ]


def test_a_split_without_its_speakers_is_named(corpus: Path) -> None:
    (corpus / "valid").mkdir()
    problem = Problem("splits without a recording of their speakers", str(corpus / "valid"))
    assert problem in prepare(corpus, corpus).problems


def test_another_layout_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no Audio SNIPS .*all\.iob\.snips\.txt.*train, valid"):
        prepare(tmp_path, tmp_path)


def test_the_same_seed_makes_the_same_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "TEXTS", {"test": 1})

    def made(name: str, seed: int) -> dict[str, bytes]:
        root = tmp_path / name
        tiny.make(root, seed)
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.*")}

    first = made("a", 1)
    assert len(first) == 4 + 2
    assert made("b", 1) == first
    assert made("c", 2) != first


@pytest.mark.tasks
def test_learns_its_tiny_corpus(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(name: str, *sets: str) -> dict[str, float]:
        manifests = tiny_corpus / "manifests"
        return train_here("sf", "sf-tiny", manifests, tmp_path / name, monkeypatch, *sets).metrics

    untrained = trained("0", "train.max_steps=1", "optim.lr=1e-9")
    metrics = trained("1")
    print(f"\nuntrained {untrained}\ntrained {metrics}")
    assert metrics["slot_type_f1"] >= 90
    assert metrics["slot_value_cer"] <= 10
    assert metrics["slot_value_cer"] <= untrained["slot_value_cer"] / 2
