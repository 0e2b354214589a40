"""Rules on predictions and scores: what is recognised depends on the audio alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from orchestra.check.compare import difference
from orchestra.check.subject import Subject, Violation, soiled
from orchestra.data.recordings import without_labels
from orchestra.tasks import Direction, Prediction
from orchestra.train.evaluation import merge
from orchestra.wire.manifest import Utterance

_RANKS = 2


def one_record_per_id(subject: Subject) -> str:
    """`predict` gives one JSON object per utterance, with its id."""
    for batch in (subject.batch(subject.few), *subject.singles(subject.few[:1])):
        records = subject.build().predict(batch)
        ids = [record.get("id") for record in records]
        if sorted(map(str, ids)) != sorted(batch.ids):
            raise Violation(
                f"predict gives records of {ids} for the utterances {batch.ids}: one for each, "
                "with its id"
            )
        for record in records:
            _require_json(record, "predict")
    return f"{len(subject.few)} records"


def predict_ignores_padding(subject: Subject) -> str:
    """Whatever stands behind an utterance's length changes no record."""
    built = subject.build()
    batch = subject.batch(subject.few)
    features, lengths = built.features(batch)
    built.model.eval()
    with torch.no_grad():
        clean = built.task.predict(built.model.head, features, lengths, batch)
        dirty = built.task.predict(
            built.model.head, soiled(features, lengths, more=7), lengths, batch
        )
    _require_same(
        clean, dirty, "with other padding: mask it by the lengths (upstreams.base.valid_mask)"
    )
    return "garbage behind the lengths changes nothing"


def predict_ignores_neighbours(subject: Subject) -> str:
    """An utterance gets the same record alone, among others, and in another order."""
    together = subject.build().predict_each([subject.batch(subject.few)])
    alone = subject.build().predict_each(subject.singles(subject.few))
    _require_same(together, alone, "alone: look at no neighbour, and keep no state")
    backwards = subject.build().predict_each([subject.batch(subject.few[::-1])])
    _require_same(together, backwards, "in another order")
    return "the same alone, together and in another order"


def predict_needs_no_labels(subject: Subject) -> str:
    """The same record where there are no labels: `orchestra predict` has none."""
    labelled = subject.build().predict_each([subject.batch(subject.few)])
    bare = [without_labels(utterance) for utterance in subject.few]
    batch = subject.batch(bare)
    if batch.targets:
        raise Violation(
            f"collate gives {sorted(batch.targets)} for utterances without labels: `target` gives "
            "None for such, and `collate` nothing"
        )
    records = subject.build().predict_each([batch])
    _require_same(labelled, records, "without labels: what `score` needs is added by `refer`")
    return "labels change nothing"


def predict_needs_no_corpus(subject: Subject) -> str:
    """A task that recalls what was learnt builds its head where the corpus is gone."""
    gone = {"manifests": Path("/nowhere"), "root": Path("/nowhere")}
    data = subject.config.data.model_copy(update=gone)
    task = subject.new_task(subject.config.model_copy(update={"data": data}))
    batch = subject.batch(subject.few)
    here = subject.build().predict_each([batch])
    elsewhere = subject.build(task).predict_each([batch])
    _require_same(here, elsewhere, "where the corpus is gone: keep it in what `learn` returns")
    return "the same where the corpus is gone"


def score_is_of_what_is_declared(subject: Subject) -> str:
    """`refer` adds labels, `score` gives the declared metrics, nothing without labels."""
    directions = dict(subject.task_class.metrics)
    wrong = [name for name, word in directions.items() if word not in get_args(Direction)]
    if not directions or wrong:
        raise Violation(f"metrics must name each metric as 'min' or 'max', not {directions}")
    task = subject.new_task()
    records = _of_split(subject, [subject.valid])
    unlabelled = task.score(records)
    if unlabelled:
        raise Violation(
            f"score gives {unlabelled} for records without labels; give {{}} where `refer` has "
            "added none"
        )
    referred = _referred(subject, records)
    metrics = task.score(referred)
    missing = sorted(directions.keys() - metrics.keys())
    if missing:
        raise Violation(f"score of {subject.config.data.valid!r} lacks {', '.join(missing)}")
    bad = {name: value for name, value in metrics.items() if not _is_finite(value)}
    if bad:
        raise Violation(f"score gives no finite number for {bad}")
    written = task.score(json.loads(json.dumps(referred)))
    differs = difference(metrics, written)
    if differs:
        raise Violation(f"score: {differs} from the same records, read back from their file")
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def ranks_change_nothing(subject: Subject) -> str:
    """Two ranks, each with its own task and share, give the records and metrics of one."""
    valid = subject.valid
    alone = merge(_of_split(subject, [valid]), valid)
    shares = [valid[rank::_RANKS] for rank in range(_RANKS)]
    together = merge(_of_split(subject, shares), valid)
    _require_same(alone, together, f"on {_RANKS} ranks")
    one, two = (
        subject.new_task().score(_referred(subject, records)) for records in (alone, together)
    )
    differs = difference(one, two)
    if differs:
        raise Violation(f"score on {_RANKS} ranks: {differs}")
    return f"{len(valid)} utterances on 1 and on {_RANKS} ranks"


def _of_split(subject: Subject, shares: Sequence[Sequence[Utterance]]) -> list[Prediction]:
    """The records of each share, by a task and a model of its own, in batches of a few."""
    records = []
    for share in shares:
        built = subject.build()
        size = len(subject.few)
        parts = [share[start : start + size] for start in range(0, len(share), size)]
        records += built.predict_each([subject.batch(part, built.task) for part in parts])
    return records


def _referred(subject: Subject, records: Sequence[Prediction]) -> list[Prediction]:
    task, by_id = subject.new_task(), {utterance.id: utterance for utterance in subject.valid}
    referred = []
    for record in sorted(records, key=lambda record: str(record["id"])):
        before = json.dumps(record)
        made = task.refer(record, by_id[record["id"]])
        if json.dumps(record) != before:
            raise Violation("refer changes the prediction it is given; give a new record")
        if made.get("id") != record["id"]:
            raise Violation(f"refer gives id {made.get('id')!r} to the record of {record['id']!r}")
        _require_json(made, "refer")
        referred.append(made)
    return referred


def _require_json(record: Prediction, whose: str) -> None:
    try:
        again = json.loads(json.dumps(record, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Violation(
            f"{whose}: the record of {record.get('id')} can't be written as JSON: {error}"
        ) from error
    differs = difference(record, again)
    if differs:
        raise Violation(f"{whose}: the record of {record.get('id')} is changed by JSON: {differs}")


def _require_same(one: Sequence[Prediction], other: Sequence[Prediction], when: str) -> None:
    by_id = {record["id"]: record for record in other}
    for record in one:
        differs = difference(record, by_id.get(record["id"]))
        if differs:
            raise Violation(f"the prediction of {record['id']}: {differs} {when}")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
