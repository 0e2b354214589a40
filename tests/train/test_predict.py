"""Predict and score as programs: what an evaluation gives, in any order, batch, rate and format."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from orchestra.tasks import Task
from orchestra.train import predict, score
from orchestra.train.distributed import Ranks
from orchestra.train.evaluation import Evaluator, load_split, read_lines
from orchestra.train.model import SpeechModel
from orchestra.train.references import utterance_of
from orchestra.train.rendezvous import Exchange
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import Job
from orchestra.wire.manifest import write_manifest
from tests.exactness.launching import write_job
from tests.train.exporting import STEP, export_of, trained
from tests.train.running import config_of

#: File, rate, channels, seconds.
FILES = [
    ("a.wav", 16000, 1, 0.31),
    ("b.flac", 8000, 1, 0.9),
    ("sub/a.wav", 44100, 2, 0.55),
    ("sub/c.ogg", 22050, 1, 0.42),
    ("sub/deep/d.mp3", 48000, 2, 0.7),
    ("e.WAV", 11025, 3, 1.1),
]


class Program:
    """`predict` or `score` in this process; the run's folder must not change."""

    def __init__(self, job: Job, capfd: pytest.CaptureFixture[str]) -> None:
        self.job, self._capfd = job, capfd
        self.weights = job.run.checkpoint(STEP)
        self.config = job.config

    def predict(self, *words: str, on_error: str = "refuse") -> tuple[int, list[Any], str]:
        fixed = ["--config", str(self.config), "--weights", str(self.weights)]
        before = _contents(self.job.folder)
        code = predict.main([*fixed, "--on-error", on_error, *words])
        assert _contents(self.job.folder) == before
        said = self._capfd.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    def score(self, *words: str) -> tuple[int, Any, str]:
        fixed = ["--config", str(self.config), "--learnt", str(self.job.run.learnt)]
        code = score.main([*fixed, *words])
        said = self._capfd.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of recordings that share neither format nor rate nor channels, and a text."""
    root = tmp_path / "recordings"
    for number, (name, rate, channels, seconds) in enumerate(FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(number)
        noise = 0.1 * draw.standard_normal((round(rate * seconds), channels))
        soundfile.write(root / name, noise, rate)
    (root / "notes.txt").write_text("no audio")
    return root


@pytest.fixture
def model_and_job(tmp_path: Path, recordings: Path) -> tuple[SpeechModel, Job]:
    """An asr run whose test split is these recordings."""
    rows = []
    for name, *_ in FILES:
        info = soundfile.info(recordings / name)
        seconds = info.frames / info.samplerate
        row = {"id": name.rpartition(".")[0], "path": f"../recordings/{name}", "text": "A CAT"}
        rows.append({**row, "duration_s": seconds})
    write_manifest(tmp_path / "manifests", "test", rows, "this test")
    head = {"kind": "small", "projection": 12, "hidden": 12}
    data = {"workers": 0, "manifests": str(tmp_path / "manifests")}
    job = write_job(tmp_path / "run", kind="asr", task={"head": head}, data=data)
    return trained(job), job


@pytest.fixture
def program(
    model_and_job: tuple[SpeechModel, Job], capfd: pytest.CaptureFixture[str]
) -> Iterator[Program]:
    yield Program(model_and_job[1], capfd)


def evaluated(model: SpeechModel, job: Job, folder: Path) -> tuple[list[Any], dict[str, float]]:
    """Records and metrics of the test split."""
    config, info = config_of(job)
    task: Task = info.task_class()(config.task, config.data)
    ranks = Ranks(0, 1, torch.device("cpu"))
    evaluator = Evaluator(config, task, model, ranks, lambda *_: None, lambda: False)
    found = evaluator.evaluate(load_split(task, "test", config), Exchange(folder))
    assert found is not None
    return read_lines(folder / "predictions.jsonl"), found.metrics


def test_a_folder_is_predicted_as_eval_does_and_scored_as_eval_does(
    model_and_job: tuple[SpeechModel, Job], program: Program, recordings: Path, tmp_path: Path
) -> None:
    referred, metrics = evaluated(*model_and_job, tmp_path / "evaluation")
    code, records, err = program.predict(str(recordings))
    assert code == ExitCode.OK
    assert "1 files in the folders are no audio by their suffix: 1 .txt" in err
    paths = {record["id"]: record.pop("path") for record in records}
    assert paths["sub/deep/d"] == str(recordings / "sub/deep/d.mp3")
    assert [r["id"] for r in records] == ["a", "b", "e", "sub/a", "sub/c", "sub/deep/d"]
    assert [record.keys() for record in records] == [{"id", "hyp"}] * 6, "no references"
    assert {r["id"]: r["hyp"] for r in records} == {r["id"]: r["hyp"] for r in referred}
    assert len({record["hyp"] for record in records}) > 3, "the same guess everywhere proves little"
    lines = tmp_path / "predictions.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    refs = str(tmp_path / "manifests" / "test.jsonl")
    code, document, _ = program.score("--refs", refs, "--predictions", str(lines))
    assert code == ExitCode.OK
    assert document["metrics"] == metrics and document["directions"]["wer"] == "min"
    _, split, _ = program.predict("--split", "test")
    assert program.predict("--manifest", refs)[1] == split
    assert {r["id"]: r["hyp"] for r in split} == {r["id"]: r["hyp"] for r in records}


def test_neither_order_nor_batches_nor_neighbours_matter(
    program: Program, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recordings)
    names = [name for name, *_ in FILES]
    _, straight, _ = program.predict(*names)
    _, backwards, _ = program.predict(*reversed(names), "--batch-seconds", "0.01")
    assert backwards == straight[::-1]
    assert straight[0].keys() == {"id", "path", "hyp"} and straight[2]["id"] == "sub/a"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*names, ""])))
    _, streamed, _ = program.predict("-", on_error="report")
    assert streamed == straight
    monkeypatch.setattr("sys.stdin", io.StringIO("\0".join(names)))
    code, records, err = program.predict("-", on_error="report")
    assert (code, records) == (ExitCode.USAGE, []) and "one path in a line" in err


def test_names_of_files_need_not_be_utf8(program: Program, recordings: Path) -> None:
    odd = recordings / os.fsdecode(b"sub/\xe4.wav")
    odd.write_bytes((recordings / "a.wav").read_bytes())
    _, records, _ = program.predict(str(recordings / "sub"))
    assert (records[-1]["id"], records[-1]["path"]) == (r"\xe4", str(odd))
    assert records[-1]["hyp"] == program.predict(str(recordings / "a.wav"))[1][0]["hyp"]


def test_an_export_predicts_without_the_run(
    program: Program, recordings: Path, tmp_path: Path
) -> None:
    _, before, _ = program.predict(str(recordings))
    export_of(program.job, tmp_path / "out")
    program.weights, program.config = tmp_path / "out", tmp_path / "out" / "config.toml"
    assert program.predict(str(recordings))[1] == before
    head = program.weights / "head.safetensors"
    *others, last = head.read_bytes()
    head.write_bytes(bytes([*others, last ^ 1]))  # it still holds numbers, but other ones
    code, records, err = program.predict(str(recordings))
    assert (code, records) == (ExitCode.FAILED, []) and "head.safetensors" in err


@pytest.fixture
def bad(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A good recording among bad ones."""
    monkeypatch.chdir(recordings)
    soundfile.write("empty.wav", np.zeros(0), 16000)
    soundfile.write("short.wav", np.zeros(50), 16000)
    soundfile.write("silent.wav", np.zeros(16000), 16000)
    soundfile.write("nan.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    return ["empty.wav", "notes.txt", "a.wav", "short.wav", "nan.wav", "silent.wav"]


def test_all_files_are_looked_at_before_anything_is_predicted(
    program: Program, bad: list[str], tmp_path: Path
) -> None:
    out = str(tmp_path / "out.jsonl")
    code, records, err = program.predict(*bad, "--out", out)
    assert (code, records) == (ExitCode.FAILED, [])
    assert "empty.wav: no samples in it\n" in err
    assert "notes.txt: corrupt or not an audio file" in err
    assert "2 of 6 recordings can't be read, so nothing was predicted" in err
    code, records, err = program.predict(*bad[2:], "--out", out)
    assert (code, records) == (ExitCode.FAILED, [])
    assert "short.wav: utterance short can't be used" in err
    assert not Path(out).exists()
    code, records, err = program.predict("a.wav", "silent.wav", "--out", out)
    assert (code, records) == (ExitCode.OK, [])
    assert "silent.wav: silent" in err and "a.wav: silent" not in err
    assert [record["id"] for record in read_lines(Path(out))] == ["a", "silent"]


def test_what_is_reported_has_a_record_in_its_place(program: Program, bad: list[str]) -> None:
    code, records, err = program.predict(*bad, on_error="report")
    assert code == ExitCode.FAILED and "4 recordings have no prediction" in err
    assert [record["path"] for record in records] == bad
    assert ["error" in record for record in records] == [True, True, False, True, True, False]
    assert "nan.wav: samples that are not finite" in records[4]["error"]
    assert "data check" not in err + str(records)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nowhere.wav"], ExitCode.NOT_FOUND, "nowhere.wav: no such file or folder"),
        (["a.wav", "a.flac"], ExitCode.FAILED, "would both have the id 'a'"),
        (["void"], ExitCode.NOT_FOUND, "void: no audio file in it"),
        (["--manifest", "notes.txt"], ExitCode.USAGE, "a manifest is a .jsonl file"),
        (["a.wav", "--out", "no/p.jsonl"], ExitCode.USAGE, "--out no/p.jsonl: there is no folder"),
        (["--split", "x"], ExitCode.NOT_FOUND, "no manifest of split 'x'"),
    ],
)
def test_what_is_not_there_is_named(
    program: Program, bad: list[str], words: list[str], code: ExitCode, text: str
) -> None:
    Path("void").mkdir()
    Path("a.flac").write_bytes(Path("b.flac").read_bytes())
    returned, records, err = program.predict(*words)
    assert (returned, records) == (code, []) and text in err


def test_predictions_that_are_no_json_are_refused(
    program: Program, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = config_of(program.job)[1].task_class()
    own = task.predict

    def scored(self: Any, *given: Any) -> Any:
        return [{**record, "score": float("nan")} for record in own(self, *given)]

    monkeypatch.setattr(task, "predict", scored)
    code, _, err = program.predict(str(recordings / "a.wav"))
    assert code == ExitCode.FAILED and "can't be written as JSON" in err


def test_a_batch_that_does_not_fit_is_taken_one_by_one(
    program: Program, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = SpeechModel.predict

    def starving(self: SpeechModel, batch: Any) -> Any:
        if batch.ids != ["a"]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return own(self, batch)

    monkeypatch.setattr(SpeechModel, "predict", starving)
    monkeypatch.chdir(recordings)
    code, records, _ = program.predict("a.wav", "b.flac", on_error="report")
    assert code == ExitCode.FAILED and "hyp" in records[0]
    assert records[1]["error"].startswith("out of memory in the prediction of 1 x 0.9 s")


def test_labels_that_the_task_does_not_know_do_not_matter(
    program: Program, recordings: Path, tmp_path: Path
) -> None:
    row = {"id": "a", "path": str(recordings / "b.flac"), "offset_s": 0.2, "duration_s": 0.5}
    manifest = tmp_path / "other.jsonl"
    manifest.write_text(json.dumps({**row, "text": "\u00e4\u00f6 77"}) + "\n")
    code, (record,), _ = program.predict("--manifest", str(manifest))
    assert code == ExitCode.OK and record.keys() == {"id", "path", "hyp"}


def refer(path: Path, text: str) -> list[str]:
    path.write_text(text)
    return ["--refs", str(path)]


def test_references_and_predictions_that_do_not_match(program: Program, tmp_path: Path) -> None:
    lines = tmp_path / "predictions.jsonl"
    records = [{"id": name, "path": f"{name}.wav", "hyp": "A"} for name in "abc"]
    records.append({"id": "d", "path": "d.wav", "error": "torn"})
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    given = ["--predictions", str(lines)]
    csv = refer(tmp_path / "r.csv", "id,text\na,A\nb,B\nd,A\ne,A\n")
    code, _, err = program.score(*csv, *given)
    assert code == ExitCode.FAILED
    assert "2 references have no prediction (d, e) and 1 predictions have no reference (c)" in err
    code, document, err = program.score(*csv, *given, "--partial")
    assert code == ExitCode.OK and "left out: 2 references without a prediction (1 of them" in err
    counts = [document[key] for key in ("utterances", "missing", "extra", "errors")]
    assert counts == [2, 2, 1, 1] and document["metrics"]["wer"] == 50.0
    by_path = refer(tmp_path / "p.jsonl", f'{{"path": "{Path.cwd()}/b.wav", "text": "A"}}\n')
    code, document, _ = program.score(*by_path, *given, "--partial")
    assert (document["utterances"], document["metrics"]["wer"]) == (1, 0.0)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.jsonl", '{"id": "a"}\n{"id": "a"}\n', "references: 'a' stands twice"),
        ("r.jsonl", '{"id": "a"}\nnonsense\n', "r.jsonl, line 2: not JSON"),
        ("r.jsonl", '{"id": "a", "speaker": 3}\n', "no labels that the task scores; it has id, sp"),
        ("r.jsonl", '{"id": "b", "text": "B"}\n', "no prediction has a reference"),
        ("r.csv", "id,text\na,A,B\n", "r.csv, line 2: 3, not 2 cells, as the header has"),
        ("r.tsv", "id\ttext\na\n", "r.tsv, line 2: 1, not 2 cells, as the header has"),
        ("r.csv", "id,text\n", "no references in it"),
        ("r.csv", "name,text\na,A\n", "references: number 1 has no 'path'"),
    ],
)
def test_references_that_can_not_be_used(
    program: Program, tmp_path: Path, name: str, text: str, said: str
) -> None:
    lines = tmp_path / "predictions.jsonl"
    lines.write_text('{"id": "a", "hyp": "A", "path": "a.wav"}\n')
    words = [*refer(tmp_path / name, text), "--predictions", str(lines), "--partial"]
    code, document, err = program.score(*words)
    assert (code, document) == (ExitCode.FAILED, None) and said in err


def test_references_without_a_label_are_refused_or_counted(
    program: Program, tmp_path: Path
) -> None:
    lines = tmp_path / "predictions.jsonl"
    lines.write_text("".join(json.dumps({"id": n, "hyp": "A"}) + "\n" for n in "abc"))
    rows = '{"id": "a", "text": "A"}\n{"id": "b", "text": null}\n{"id": "c"}\n'
    words = [*refer(tmp_path / "r.jsonl", rows), "--predictions", str(lines)]
    code, document, err = program.score(*words)
    assert (code, document) == (ExitCode.FAILED, None)
    assert "2 references have no label that the task scores (b, c), 1 have one" in err
    code, document, err = program.score(*words, "--partial")
    assert code == ExitCode.OK and "2 references without a label" in err
    assert (document["utterances"], document["unlabelled"]) == (1, 2)
    assert document["metrics"]["sentences"] == 1


@pytest.mark.parametrize("record", [{"predicted": "yes"}, {"hyp": None}])
def test_predictions_of_another_task_are_told(
    program: Program, tmp_path: Path, record: dict[str, Any]
) -> None:
    lines = tmp_path / "predictions.jsonl"
    lines.write_text(json.dumps({"id": "a", **record}))
    words = refer(tmp_path / "r.jsonl", '{"id": "a", "text": "A"}')
    code, document, err = program.score(*words, "--predictions", str(lines))
    assert (code, document) == (ExitCode.FAILED, None)
    assert "prediction a: not as task 'asr' writes them" in err and "Traceback" not in err


def test_numbers_in_csv_are_told(program: Program, tmp_path: Path) -> None:
    lines = tmp_path / "predictions.jsonl"
    lines.write_text('{"id": "1", "hyp": "7"}\n')
    csv = refer(tmp_path / "r.csv", "id,text\n1,A\n")
    assert "taken as text" not in program.score(*csv, "--predictions", str(lines))[2]
    csv = refer(tmp_path / "r.csv", "id,text,label\n1,A,7\n")
    assert "numbers of column 'label' are" in program.score(*csv, "--predictions", str(lines))[2]


def test_what_a_prediction_knows_of_its_length_need_not_stand_in_the_references() -> None:
    assert utterance_of({"id": "a", "duration_s": 2.5}, {"id": "a"}).duration_s == 2.5
    assert utterance_of({"id": "a", "duration_s": 2.5}, {"duration_s": 2.0}).duration_s == 2.0
