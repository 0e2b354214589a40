"""All rules of the contract, and what is found when a task is held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestra.check import data_rules, input_rules, loss_rules, predict_rules, training_rules
from orchestra.check.mistakes import of_task
from orchestra.check.subject import Subject
from orchestra.wire.errors import OrchestraError

State = Literal["ok", "broken", "skipped"]
Verify = Callable[[Subject], str]
"""Says what was seen (Violation: the rule is broken)."""


@dataclass(frozen=True)
class Rule:
    """One thing that orchestra relies on."""

    name: str
    verify: Verify
    needs: tuple[str, ...] = ()
    """Rules without which there is nothing to see here, or only what they have found already."""

    @property
    def claim(self) -> str:
        """What must hold, in a sentence."""
        return (self.verify.__doc__ or "").strip()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Finding:
    """What came of a rule."""

    rule: str
    state: State
    text: str
    """What was seen, or what is wrong: where, and what to do."""

    @property
    def ok(self) -> bool:
        return self.state == "ok"


_DATA = ("config", "learnt", "ids", "waveforms")
_LOSS = (*_DATA, "loss", "loss and inputs", "loss and seeds")
_RECORDS = (*_DATA, "records", "predict and inputs")

RULES: tuple[Rule, ...] = (
    Rule("config", data_rules.config_is_light),
    Rule("imports", data_rules.imports_are_for_ranks),
    Rule("learnt", data_rules.learnt_survives_json, ("config",)),
    Rule("ids", data_rules.ids_are_unique, ("config", "learnt")),
    Rule("waveforms", data_rules.waveforms_are_16k_mono, ("config", "learnt", "ids")),
    Rule("joint splits", data_rules.splits_join, _DATA),
    Rule("labels", data_rules.labels_can_be_used, _DATA),
    Rule("loss", loss_rules.loss_is_a_sum_with_a_weight, _DATA),
    Rule("loss and inputs", input_rules.loss_keeps_its_inputs, (*_DATA, "loss")),
    Rule("loss and seeds", loss_rules.loss_draws_from_its_seeds, _LOSS[:-1]),
    Rule("loss adds up", loss_rules.loss_adds_up, _LOSS),
    Rule("loss and padding", loss_rules.loss_ignores_padding, _LOSS),
    Rule("records", predict_rules.one_record_per_id, _DATA),
    Rule("predict and inputs", input_rules.predict_keeps_its_inputs, (*_DATA, "records")),
    Rule("predict and padding", predict_rules.predict_ignores_padding, _RECORDS),
    Rule("predict and neighbours", predict_rules.predict_ignores_neighbours, _RECORDS),
    Rule("predict without labels", predict_rules.predict_needs_no_labels, _RECORDS),
    Rule("predict without corpus", predict_rules.predict_needs_no_corpus, _RECORDS),
    Rule("score", predict_rules.score_is_of_what_is_declared, (*_RECORDS, "labels")),
    Rule("ranks", predict_rules.ranks_change_nothing, (*_RECORDS, "labels", "score")),
    Rule("resume", training_rules.resume_is_exact, (*_DATA, "loss")),
)


def check(subject: Subject, rules: Sequence[Rule] = RULES) -> Iterator[Finding]:
    """A finding per rule, each as soon as it is there."""
    kept: set[str] = set()
    for rule in rules:
        missing = [name for name in rule.needs if name not in kept]
        if missing:
            yield Finding(rule.name, "skipped", f"not looked at before {missing[0]!r} is kept")
            continue
        finding = find(rule, subject)
        if finding.ok:
            kept.add(rule.name)
        yield finding


def find(rule: Rule, subject: Subject) -> Finding:
    """Hold the task against one rule."""
    try:
        with of_task(subject.folder):
            return Finding(rule.name, "ok", rule.verify(subject))
    except OrchestraError as error:
        return Finding(rule.name, "broken", str(error))
