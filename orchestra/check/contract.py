"""All rules of the contract, and what is found when a task is held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from orchestra.check import data_rules, loss_rules, predict_rules, training_rules
from orchestra.check.mistakes import MistakeError, of_task
from orchestra.check.subject import Subject, Violation
from orchestra.wire.errors import OrchestraError

State = Literal["ok", "broken", "skipped"]
Verify = Callable[[Subject], str]
"""Says what was seen (Violation: the rule is broken)."""


@dataclass(frozen=True)
class Rule:
    """One thing that orchestra relies on."""

    name: str
    verify: Verify

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


_FIRST = (
    Rule("config", data_rules.config_is_light),
    Rule("ids", data_rules.ids_are_unique),
    Rule("waveforms", data_rules.waveforms_are_16k_mono),
)
RULES: tuple[Rule, ...] = (
    *_FIRST,
    Rule("joint splits", data_rules.splits_join),
    Rule("learnt", data_rules.learnt_survives_json),
    Rule("loss", loss_rules.loss_is_a_sum_with_a_weight),
    Rule("loss adds up", loss_rules.loss_adds_up),
    Rule("loss and padding", loss_rules.loss_ignores_padding),
    Rule("loss and seeds", loss_rules.loss_draws_from_its_seeds),
    Rule("records", predict_rules.one_record_per_id),
    Rule("predict and padding", predict_rules.predict_ignores_padding),
    Rule("predict and neighbours", predict_rules.predict_ignores_neighbours),
    Rule("predict without labels", predict_rules.predict_needs_no_labels),
    Rule("predict without corpus", predict_rules.predict_needs_no_corpus),
    Rule("score", predict_rules.score_is_of_what_is_declared),
    Rule("ranks", predict_rules.ranks_change_nothing),
    Rule("resume", training_rules.resume_is_exact),
)


def check(subject: Subject) -> Iterator[Finding]:
    """A finding per rule, each as soon as it is there.

    Where config or data can't be used, nothing else can be looked at.
    """
    usable = True
    for rule in RULES:
        if not usable and rule not in _FIRST:
            yield Finding(rule.name, "skipped", "the task's config or data can't be used")
            continue
        finding = find(rule, subject)
        usable = usable and (finding.ok or rule not in _FIRST)
        yield finding


def find(rule: Rule, subject: Subject) -> Finding:
    """Hold the task against one rule."""
    try:
        with of_task(subject.folder):
            return Finding(rule.name, "ok", rule.verify(subject))
    except (Violation, MistakeError) as error:
        return Finding(rule.name, "broken", str(error))
    except OrchestraError as error:
        return Finding(rule.name, "broken", f"{error} ({rule.claim})")
