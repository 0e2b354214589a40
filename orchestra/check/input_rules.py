"""Rules on what a task is given: others go on using it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from orchestra.check.mistakes import Violation
from orchestra.check.subject import Built, Subject


def loss_keeps_its_inputs(subject: Subject) -> str:
    """`loss` changes nothing that it is given: a regulariser asks for a second one."""
    built = subject.build()
    return _require_kept(subject, built, "loss", built.task.loss)


def predict_keeps_its_inputs(subject: Subject) -> str:
    """`predict` changes nothing that it is given, and the head least of all."""
    built = subject.build()
    return _require_kept(subject, built, "predict", built.task.predict)


def _require_kept(subject: Subject, built: Built, name: str, call: Callable[..., Any]) -> str:
    built.model.eval()
    batch = subject.batch(subject.few, built.task)
    features, lengths = built.features(batch)
    given = {"features": features, "lengths": lengths, **batch.targets}
    state = built.model.head.state_dict()
    given |= {f"head's {key}": held for key, held in state.items() if isinstance(held, Tensor)}
    before = {key: tensor.clone() for key, tensor in given.items()}
    ids = list(batch.ids)
    with torch.no_grad():
        call(built.model.head, features, lengths, batch)
    changed = [key for key, tensor in given.items() if not torch.equal(tensor, before[key])]
    if batch.ids != ids or [each.id for each in batch.utterances] != ids:
        changed.append("batch's utterances")
    if changed:
        raise Violation(f"{name} changes the {changed[0]} that it is given; work on a copy")
    return "nothing is changed"
