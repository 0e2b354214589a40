"""Rules on config and data find the task that breaks them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestra.check.subject import Subject
from orchestra.wire.errors import DataError
from tests.check.finding import finding


def test_config_that_loads_what_is_heavy(sound: Subject, tmp_path: Path) -> None:
    light = (sound.folder / "config.py").read_text()
    (tmp_path / "config.py").write_text(f"{light}\nimport numpy\n")
    found = finding("config", sound, folder=tmp_path)
    assert found.state == "broken" and "config.py loads numpy" in found.text
    (tmp_path / "large_package.py").write_text("")
    path = f"import sys; sys.path.append({str(tmp_path)!r})"
    (tmp_path / "config.py").write_text(f"{light}\n{path}\nimport csv, large_package\n")
    assert "config.py loads large_package:" in finding("config", sound, folder=tmp_path).text
    (tmp_path / "config.py").write_text("raise SystemExit")
    assert finding("config", sound, folder=tmp_path).text.endswith(
        "config.py: SystemExit, without a word of why"
    )
    (tmp_path / "config.py").write_text("import nothing_such")
    assert "No module named 'nothing_such'" in finding("config", sound, folder=tmp_path).text


def test_imports_that_ranks_must_not_have(sound: Subject, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("import torch\n")
    assert finding("imports", sound, folder=tmp_path).ok
    for line, name in (
        ("import typer.main", "typer.main"),
        ("from orchestra import registry", "orchestra.registry"),
        ("    from git import Repo", "git.Repo"),
    ):
        (tmp_path / "more.py").write_text(f"def late():\n    pass\n    {line.strip()}\n")
        text = finding("imports", sound, folder=tmp_path).text
        assert text.startswith(f"more.py, line 3: imports {name}: a task knows of nothing but")


def test_ids_that_stand_twice_and_utterances_of_no_length(sound: Subject, example: Any) -> None:
    class Twice(example):
        def utterances(self, split: str) -> Any:
            found = super().utterances(split)
            return [*found, found[0]]

    assert "ids must be unique, but train-00000 stand" in finding("ids", sound, Twice).text

    class Empty(example):
        def utterances(self, split: str) -> Any:
            return [replace(each, duration_s=0.0) for each in super().utterances(split)]

    text = finding("ids", sound, Empty).text
    assert "duration_s of train-00000, train-00001, train-00002 and 9 more is not above 0" in text


def test_joint_splits_that_are_not_taken_apart(sound: Subject, example: Any) -> None:
    class Deaf(example):
        def utterances(self, split: str) -> Any:
            return super().utterances(split.partition("+")[0])

    assert (
        "has 12 utterances, not the 12 and then the 7" in finding("joint splits", sound, Deaf).text
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda wav: wav.astype(np.float64), "gives float64"),
        (lambda wav: wav.tolist(), "gives a list, not a NumPy array"),
        (lambda wav: wav * np.float32(32768), ": scale to [-1, 1]"),
        (lambda wav: wav[:, None], ", 1), not float32 (samples,)"),
        (lambda wav: wav[: len(wav) // 2], "but duration_s is"),
        (lambda wav: wav * np.float32(np.nan), "NaN or infinite samples"),
        (
            lambda wav: wav + np.float32(np.random.default_rng().normal()),
            "other samples the second",
        ),
    ],
)
def test_waveforms(sound: Subject, example: Any, change: Any, text: str) -> None:
    class Other(example):
        def read(self, utterance: Any) -> Any:
            return change(super().read(utterance))

    found = finding("waveforms", sound, Other)
    assert found.state == "broken" and text in found.text and "read('train-0" in found.text


def test_what_is_learnt_must_survive(sound: Subject, example: Any) -> None:
    class Tuples(example):
        def learn(self, utterances: Any) -> Any:
            return {"classes": ("a", "b")}

    assert "a tuple became a list" in finding("learnt", sound, Tuples).text

    class Tensors(example):
        def learn(self, utterances: Any) -> Any:
            return {"mean": torch.zeros(3)}

    assert "what JSON has no word for" in finding("learnt", sound, Tensors).text

    class Forgetful(example):
        shift = 0

        def learn(self, utterances: Any) -> Any:
            self.shift = 1
            return {}

        def target(self, utterance: Any) -> Any:
            return super().target(utterance) + self.shift

    assert "after recall: keep all that `learn` finds" in finding("learnt", sound, Forgetful).text

    class Knowing(example):
        known = False

        def learn(self, utterances: Any) -> Any:
            self.known = True
            return {}

        def target(self, utterance: Any) -> Any:
            if not self.known:
                raise DataError(f"utterance {utterance.id}: an unknown label")
            return super().target(utterance)

    text = finding("learnt", sound, Knowing).text
    assert "utterance train-00000: an unknown label; keep all that `learn` finds out" in text


def test_what_is_given_to_learn_and_target_stays_as_it_is(sound: Subject, example: Any) -> None:
    class Sorting(example):
        def learn(self, utterances: Any) -> Any:
            utterances.reverse()
            return super().learn(utterances)

    assert "learn changes the utterances" in finding("learnt", sound, Sorting).text

    class Marking(example):
        def target(self, utterance: Any) -> Any:
            utterance.fields["seen"] = True
            return super().target(utterance)

    assert "target changes the fields of train-00000" in finding("learnt", sound, Marking).text


def test_a_label_that_can_not_be_used_in_a_split_that_is_only_tested(
    sound: Subject, example: Any
) -> None:
    class Unseen(example):
        def target(self, utterance: Any) -> Any:
            if utterance.id == "test-00001":
                raise DataError("utterance test-00001: label 'purple' is not known")
            return super().target(utterance)

    found = finding("labels", sound, Unseen)
    assert found.state == "broken"
    assert found.text.startswith("split 'test': utterance test-00001: label 'purple' is not known")
