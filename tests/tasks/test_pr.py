"""The pr task: phones of a lexicon, refusals of what it lacks, records, its tiny corpus."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jiwer
import kaldialign
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestra.config.compose import Request, compose
from orchestra.config.schema import DataConfig
from orchestra.data import librispeech
from orchestra.tasklib.ctc_config import LinearHeadConfig
from orchestra.tasks import Batch, find_task
from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import Utterance, write_manifest
from tasks.pr import prepare, tiny
from tasks.pr.config import Config
from tasks.pr.lexicon import read_lexicon
from tasks.pr.scoring import compare, summarise
from tasks.pr.task import Task
from tests.tasks.training import prepare_tiny, train_here

LEXICON = """\
;;; a comment
A  AH0
A  EY1
BEE\tB IY1
bees B IY1 Z # plural, of bee
"""
LINES: list[dict[str, Any]] = [{"text": "A BEE"}, {"text": "bees a"}, {"text": "BEE BEE"}]

few_phones = st.lists(st.sampled_from(["AH0", "AH1", "B", "SH", "ʃ"]), max_size=12)


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.txt"
    path.write_text(LEXICON)
    return path


def task_on(folder: Path, lines: list[dict[str, Any]], split: str = "train", **config: Any) -> Task:
    """A task whose split has these labels; nothing is learnt yet."""
    rows = [
        {"id": f"u{number}", "path": "x.flac", "duration_s": 1.0, **line}
        for number, line in enumerate(lines)
    ]
    write_manifest(folder, split, rows, "")
    return Task(Config(**config), DataConfig(manifests=folder))


def learnt(task: Task) -> Task:
    task.recall(task.learn(task.utterances("train")))
    return task


def phones_of(task: Task, split: str = "train") -> list[str]:
    return [" ".join(task.tokens(u) or ()) for u in task.utterances(split)]


def test_texts_become_the_first_pronunciations(tmp_path: Path, lexicon: Path) -> None:
    task = task_on(tmp_path, LINES, lexicon=[lexicon])
    assert phones_of(task) == ["AH0 B IY1", "B IY1 Z AH0", "B IY1 B IY1"]


def test_a_further_lexicon_adds_words_and_changes_none(tmp_path: Path, lexicon: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("A EY1\nSEA S IY1\n")
    task = task_on(tmp_path, [{"text": "A SEA"}], lexicon=[lexicon, more])
    assert phones_of(task) == ["AH0 S IY1"]


def test_without_stress_vowels_are_one_phone(tmp_path: Path, lexicon: Path) -> None:
    task = task_on(tmp_path, LINES, lexicon=[lexicon], stress="strip")
    assert phones_of(task) == ["AH B IY", "B IY Z AH", "B IY B IY"]
    assert task.learn(task.utterances("train")) == {"phones": ["AH", "B", "IY", "Z"]}


def test_phones_of_the_lexicon_are_learnt_and_the_file_is_not_needed_to_predict(
    tmp_path: Path, lexicon: Path
) -> None:
    task = task_on(tmp_path, LINES, lexicon=[lexicon])
    kept = task.learn(task.utterances("train"))
    assert kept == {"phones": ["AH0", "B", "IY1", "Z"]}
    lexicon.unlink()
    later = task_on(tmp_path, [{}], "new", lexicon=[lexicon])
    later.recall(kept)
    head = later.build_head(6, 160)
    (unlabelled,) = later.utterances("new")
    batch = Batch(["u0"], torch.zeros(1, 1), torch.tensor([1600]), {}, [0], [unlabelled])
    (record,) = later.predict(head, torch.randn(1, 10, 6), torch.tensor([10]), batch)
    assert set(record) == {"id", "hyp"}
    assert later.refer(record, unlabelled) == record
    assert later.score([record]) == {}


def test_manifests_may_hold_the_phones(tmp_path: Path) -> None:
    task = learnt(task_on(tmp_path, [{"phones": "t a"}, {"phones": "a k"}]))
    assert phones_of(task) == ["t a", "a k"]
    assert len(task.symbols) == 4
    first = task.utterances("train")[0]
    assert task.target(first).tolist() == [3, 1]  # type: ignore[union-attr]


def test_a_phone_that_training_had_not_is_refused_when_its_split_is_read(tmp_path: Path) -> None:
    task = learnt(task_on(tmp_path, [{"phones": "t a"}]))
    task_on(tmp_path, [{"phones": "t a"}, {"phones": "a x"}], "dev")
    with pytest.raises(DataError, match="utterance u1: 'x' did not occur in training"):
        task.utterances("dev")


def test_missing_words_are_refused_with_words_and_utterances(tmp_path: Path, lexicon: Path) -> None:
    lines = [*LINES, {"text": "A WASP"}, {"text": "WASP HIVE"}]
    said = (
        r"add a file of `WORD PHONE PHONE \.\.\.` lines to .*task\.missing_word=leave-out: "
        r"2 of split 'train' have words .* lexicon: WASP \(u3\), HIVE \(u4\)$"
    )
    with pytest.raises(DataError, match=said):
        task_on(tmp_path, lines, lexicon=[lexicon]).utterances("train")


def test_missing_words_may_be_left_out_counted_and_named(
    tmp_path: Path, lexicon: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [*LINES, {"text": "A WASP"}]
    task = task_on(tmp_path, lines, lexicon=[lexicon], missing_word="leave-out")
    with caplog.at_level(logging.WARNING):
        assert [u.id for u in task.utterances("train")] == ["u0", "u1", "u2"]
    assert "split 'train': 1 of 4 utterances are left out" in caplog.text
    assert "u3 (WASP)" in caplog.text


def test_a_split_of_which_nothing_would_be_left_is_refused(tmp_path: Path, lexicon: Path) -> None:
    task = task_on(tmp_path, [{"text": "WASP"}], lexicon=[lexicon], missing_word="leave-out")
    with pytest.raises(DataError, match=r"1 of split 'train' have words .* lexicon: WASP \(u0\)"):
        task.utterances("train")


def test_references_with_missing_words_are_refused_or_left_unscored(
    tmp_path: Path, lexicon: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Predictions of a folder are of all its recordings, those that a split leaves out too."""
    wasp = Utterance("u9", Path("x.wav"), 0.0, 1.0, {"text": "A WASP"})
    strict = learnt(task_on(tmp_path, LINES, lexicon=[lexicon]))
    with pytest.raises(DataError, match=r"utterance u9: 'WASP' is not in the lexicon; add it"):
        strict.refer({"id": "u9", "hyp": "B"}, wasp)
    lax = learnt(task_on(tmp_path, LINES, lexicon=[lexicon], missing_word="leave-out"))
    assert lax.refer({"id": "u9", "hyp": "B"}, wasp) == {"id": "u9", "hyp": "B"}
    assert "utterance u9 is not scored: not in the lexicon: WASP" in caplog.text


def test_a_phone_that_training_had_not_is_refused_as_a_reference(tmp_path: Path) -> None:
    task = learnt(task_on(tmp_path, [{"phones": "t a"}]))
    other = Utterance("u9", Path("x.wav"), 0.0, 1.0, {"phones": "t x"})
    with pytest.raises(DataError, match="utterance u9: 'x' did not occur in training"):
        task.refer({"id": "u9", "hyp": "t"}, other)


def test_nothing_is_logged_where_nothing_is_left_out(
    tmp_path: Path, lexicon: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_on(tmp_path, LINES, lexicon=[lexicon], missing_word="leave-out")
    assert len(task.utterances("train")) == 3
    assert not caplog.text


@pytest.mark.parametrize(
    ("line", "config"), [({"text": " "}, True), ({"phones": ""}, False), ({"phones": ["B"]}, False)]
)
def test_a_reference_that_is_empty_or_no_text_is_refused(
    tmp_path: Path, lexicon: Path, line: dict[str, Any], config: bool
) -> None:
    task = task_on(tmp_path, [line], lexicon=[lexicon] if config else [])
    with pytest.raises(DataError, match="utterance u0: its reference must be a text"):
        task.utterances("train")


def test_nothing_to_learn_phones_from_is_an_error(tmp_path: Path) -> None:
    task = task_on(tmp_path, [{"text": "A BEE"}])
    with pytest.raises(DataError, match=r"split 'train' has no phones .*task\.lexicon"):
        task.learn(task.utterances("train"))


def test_a_missing_lexicon_says_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no lexicon .*none\.txt.*openslr\.org/11"):
        read_lexicon([tmp_path / "none.txt"])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"A AH0\nBEE\n", r"lexicon\.txt, line 2: word 'BEE' has no phones"), (b"\xff", "not UTF-8")],
)
def test_a_malformed_lexicon_is_an_error(lexicon: Path, content: bytes, said: str) -> None:
    lexicon.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_lexicon([lexicon])


@given(references=st.lists(few_phones.filter(bool), min_size=1, max_size=5), data=st.data())
def test_per_is_jiwers_and_kaldialigns(references: list[list[str]], data: st.DataObject) -> None:
    said = [data.draw(few_phones) for _ in references]
    ours = summarise([compare(r, h) for r, h in zip(references, said, strict=True)])
    texts = [" ".join(phones) for phones in references]
    assert ours["per"] == pytest.approx(100 * jiwer.wer(texts, [" ".join(h) for h in said]))
    kaldi = [kaldialign.edit_distance(r, h) for r, h in zip(references, said, strict=True)]
    for name, key in (("insertions", "ins"), ("deletions", "del"), ("substitutions", "sub")):
        assert ours[name] == sum(counts[key] for counts in kaldi)


def test_records_show_every_phone(tmp_path: Path, lexicon: Path) -> None:
    task = learnt(task_on(tmp_path, LINES, lexicon=[lexicon]))
    utterance = task.utterances("train")[1]
    record = task.refer({"id": "u1", "hyp": "B IY1 AH0"}, utterance)
    assert record["ref"] == "B IY1 Z AH0"
    assert record["alignment"][2] == ["Z", None]
    metrics = task.score([record])
    assert (metrics["per"], metrics["deletions"], metrics["utterances"]) == (25.0, 1, 1)


def test_default_is_superbs(tmp_path: Path) -> None:
    assert Config().head == LinearHeadConfig(projection=256)
    assert Config().spec_augment is None
    assert find_task("libriphone", tmp_path).name == "pr"
    config = compose(Request(workspace=tmp_path, task="pr")).config
    assert (config.optim.kind, config.optim.lr, config.train.max_steps) == ("adam", 1e-2, 100_000)
    assert config.task.lexicon == [tmp_path / "data/LibriSpeech/librispeech-lexicon.txt"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny one, prepared."""
    root = tmp_path_factory.mktemp("libriphone")
    prepare_tiny("libriphone", root)
    return root


def test_librispeech_reads_the_same_manifests(corpus: Path) -> None:
    ours = prepare.prepare(corpus, corpus / "manifests").splits
    theirs = librispeech.read_split(corpus, "dev-clean", corpus / "manifests").lines
    assert ours["dev-clean"] == theirs
    assert set(ours) == set(tiny.UTTERANCES)


def test_words_without_phones_are_named_when_prepared(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test-clean").symlink_to(corpus / "test-clean")
    (tmp_path / prepare.LEXICON).write_text("A AH0\n")
    prepared = prepare.prepare(tmp_path, tmp_path)
    assert not prepared.problems
    first = prepared.splits["test-clean"][0]
    word = next(word for word in first["text"].split() if word != "A")
    told = capsys.readouterr().err
    assert "test-clean: 50 of 50 utterances have words that are not in the lexicon" in told
    assert f"becomes of them: {word} ({first['id']}), " in told
    assert told.strip().endswith("and 9 more")  # of 19


def test_a_corpus_without_its_lexicon_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "test-clean").symlink_to(corpus / "test-clean")
    with pytest.raises(NotFoundError, match=r"no lexicon .*librispeech-lexicon\.txt"):
        prepare.prepare(tmp_path, tmp_path)


def test_the_same_seed_makes_the_same_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "UTTERANCES", {"dev-clean": (("84",), 2)})

    def made(name: str, seed: int) -> dict[str, bytes]:
        root = tmp_path / name
        root.mkdir()
        tiny.make(root, seed)
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.*")}

    first = made("a", 1)
    assert len(first) == 4
    assert made("b", 1) == first
    assert made("c", 2) != first


@pytest.mark.tasks
def test_learns_its_tiny_corpus(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (f'data.root="{corpus}"',)
    untrained = train_here(
        "pr", "pr-tiny", corpus / "manifests", tmp_path / "0", monkeypatch, *sets,
        "train.max_steps=1", "optim.lr=1e-9",
    )  # fmt: skip
    trained = train_here("pr", "pr-tiny", corpus / "manifests", tmp_path / "1", monkeypatch, *sets)
    print(f"\nPER untrained {untrained.metrics['per']:.1f}, trained {trained.metrics['per']:.1f}")
    assert trained.metrics["per"] <= 30
    assert trained.metrics["per"] <= untrained.metrics["per"] / 2


def test_frames_of_phones_are_what_the_head_must_give(tmp_path: Path) -> None:
    """Three equal phones need five frames; 0.04 s of fbank hold four."""
    task = task_on(tmp_path, [{"phones": "t t t", "duration_s": 0.04}])
    learnt(task)
    with pytest.raises(DataError, match="can't be learnt"):
        task.build_head(6, 160)


def test_utterances_of_a_file_have_no_reference(tmp_path: Path) -> None:
    task = learnt(task_on(tmp_path, [{"phones": "t a"}]))
    assert task.target(Utterance("x", Path("x.wav"), 0.0, 1.0, {"text": "TEA"})) is None
