"""Rules on predictions and scores: what is recognised depends on the audio alone."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from orchestra.check import handed
from orchestra.check.compare import difference
from orchestra.check.mistakes import Violation
from orchestra.check.subject import Subject, soiled
from orchestra.data.recordings import without_labels
from orchestra.tasks import Direction, Prediction
from orchestra.train.evaluation import merge
from orchestra.wire.manifest import Utterance

_RANKS = 2


def one_record_per_id(subject: Subject) -> str:
    """`predict` gives one JSON object per utterance, with its id, and draws nothing."""
    for batch in (subject.batch(subject.few), *subject.singles(subject.few[:1])):
        built = subject.build()
        before = _random_state()
        records = built.predict(batch)
        if _random_state() != before:
            raise Violation(
                "predict draws random numbers: an evaluation would depend on what was drawn "
                "before; dropout belongs to training alone"
            )
        ids = [record.get("id") for record in records]
        if sorted(ids, key=str) != sorted(batch.ids):
            raise Violation(
                f"predict gives records of {ids} for the utterances {batch.ids}: one for each, "
                "with its id"
            )
        for record in records:
            _require_json(record, "predict")
        if json.dumps(records) != json.dumps(built.predict(batch)):
            raise Violation(
                f"predict gives another record of {batch.ids[0]} or its neighbours the second "
                "time: keep no state, and look at no clock"
            )
    return f"{len(subject.few)} records"


def predict_ignores_padding(subject: Subject) -> str:
    """Whatever stands behind an utterance's length changes no record."""
    built = subject.build()
    batch = subject.batch(subject.few)
    features, lengths = built.features(batch)
    built.model.eval()
    with torch.no_grad():
        clean, dirty = (
            handed.records(built.task.predict(built.model.head, each, lengths, batch))
            for each in (features, soiled(features, lengths, more=7))
        )
    require_same(
        clean, dirty, "with other padding: mask it by the lengths (upstreams.base.valid_mask)"
    )
    return "garbage behind the lengths changes nothing"


def predict_ignores_neighbours(subject: Subject) -> str:
    """An utterance gets the same record alone, among others, and in another order."""
    together = subject.build().predict_each([subject.batch(subject.few)])
    alone = subject.build().predict_each(subject.singles(subject.few))
    require_same(together, alone, "alone: look at no neighbour, and keep no state")
    backwards = subject.build().predict_each([subject.batch(subject.few[::-1])])
    require_same(together, backwards, "in another order")
    return "the same alone, together and in another order"


def predict_needs_no_labels(subject: Subject) -> str:
    """The same record under another id and without labels: `orchestra predict` has none."""
    labelled = subject.build().predict_each([subject.batch(subject.few)])
    bare = [without_labels(utterance) for utterance in subject.few]
    batch = subject.batch(bare)
    if batch.targets:
        raise Violation(
            f"collate gives {sorted(batch.targets)} for utterances without labels: `target` gives "
            "None for such, and `collate` nothing"
        )
    names = {f"elsewhere/{each.id}": each.id for each in bare}
    renamed = [replace(each, id=name) for each, name in zip(bare, names, strict=True)]
    batch = replace(batch, ids=list(names), utterances=renamed)
    records = [{**each, "id": names[each["id"]]} for each in subject.build().predict_each([batch])]
    require_same(
        labelled,
        records,
        "under another id and without labels: what `score` needs is added by `refer`",
    )
    return "neither labels nor ids change anything"


def predict_needs_no_corpus(subject: Subject) -> str:
    """A task that recalls what was learnt builds its head where the corpus is gone."""
    gone = {"manifests": Path("/nowhere"), "root": Path("/nowhere")}
    data = subject.config.data.model_copy(update=gone)
    task = subject.new_task(subject.config.model_copy(update={"data": data}))
    batch = subject.batch(subject.few)
    here = subject.build().predict_each([batch])
    elsewhere = subject.build(task).predict_each([batch])
    require_same(here, elsewhere, "where the corpus is gone: keep it in what `learn` returns")
    return "the same where the corpus is gone"


def score_is_of_what_is_declared(subject: Subject) -> str:
    """`refer` adds labels, `score` gives the declared metrics, nothing without labels."""
    metrics = getattr(subject.task_class, "metrics", None)
    directions = dict(metrics) if isinstance(metrics, Mapping) else {}
    if not directions or not set(directions.values()) <= set(get_args(Direction)):
        raise Violation(f"metrics must name each metric as 'min' or 'max', not {metrics}")
    task = subject.new_task()
    records = of_split(subject, [subject.valid])
    unlabelled = handed.metrics(task.score(records))
    if unlabelled:
        raise Violation(
            f"score gives {unlabelled} for records without labels; give {{}} where `refer` has "
            "added none"
        )
    referred = _referred(subject, records)
    written = json.dumps(referred)
    metrics = handed.metrics(task.score(referred))
    if json.dumps(referred) != written:
        raise Violation("score changes the records that it is given; work on copies")
    missing = sorted(directions.keys() - metrics.keys())
    if missing:
        raise Violation(f"score of {subject.config.data.valid!r} lacks {', '.join(missing)}")
    bad = {name: value for name, value in metrics.items() if not _is_finite(value)}
    if bad:
        raise Violation(f"score gives no finite number for {bad}")
    differs = difference(metrics, task.score(json.loads(written)))
    if differs:
        raise Violation(f"score: {differs} from the same records, read back from their file")
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def ranks_change_nothing(subject: Subject) -> str:
    """Two ranks, each with its own task and share, give the records and metrics of one."""
    valid = subject.valid
    alone = merge(of_split(subject, [valid]), valid)
    shares = [valid[rank::_RANKS] for rank in range(_RANKS)]
    together = merge(of_split(subject, shares), valid)
    require_same(alone, together, f"on {_RANKS} ranks")
    one, two = (
        subject.new_task().score(_referred(subject, records)) for records in (alone, together)
    )
    differs = difference(one, two)
    if differs:
        raise Violation(f"score on {_RANKS} ranks: {differs}")
    return f"{len(valid)} utterances on 1 and on {_RANKS} ranks"


def of_split(subject: Subject, shares: Sequence[Sequence[Utterance]]) -> list[Prediction]:
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
        made = handed.record(task.refer(record, by_id[record["id"]]))
        if json.dumps(record) != before:
            raise Violation("refer changes the prediction it is given; give a new record")
        if made.get("id") != record["id"]:
            raise Violation(f"refer gives id {made.get('id')!r} to the record of {record['id']!r}")
        _require_json(made, "refer")
        referred.append(made)
    return referred


def _random_state() -> tuple[bytes, str, str]:
    """Of the global generators of torch, NumPy and Python."""
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state().numpy().tobytes()
    return torch_state, str(numpy_state), str(random.getstate())


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


def require_same(one: Sequence[Prediction], other: Sequence[Prediction], when: str) -> None:
    by_id = {record["id"]: record for record in other}
    for record in one:
        differs = difference(record, by_id.get(record["id"]))
        if differs:
            raise Violation(f"the prediction of {record['id']}: {differs} {when}")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
