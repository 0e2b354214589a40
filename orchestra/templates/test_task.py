"""newtask: it keeps the contract of tasks, and scores what it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.testing import RULES, Rule, Subject, find, subject_of
from orchestra.wire.errors import DataError

WORKSPACE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The task on its tiny corpus."""
    return subject_of("newtask", WORKSPACE, tmp_path_factory.mktemp("newtask"))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_contract(rule: Rule, subject: Subject) -> None:
    finding = find(rule, subject)
    assert finding.ok, finding.text


def test_accuracy_counts_what_has_a_label(subject: Subject) -> None:
    task = subject.new_task()
    right = {"id": "a", "predicted": "low", "label": "low"}
    wrong = {"id": "b", "predicted": "low", "label": "high"}
    assert task.score([right, wrong]) == {"accuracy": 50.0}
    assert task.score([{"id": "a", "predicted": "low"}]) == {}


def test_a_label_that_training_does_not_know_is_refused(subject: Subject) -> None:
    known = subject.few[0]
    utterance = replace(known, fields={**known.fields, "label": "purple"})
    with pytest.raises(DataError, match=f"{utterance.id}: label 'purple' is not in the training"):
        subject.new_task().target(utterance)
