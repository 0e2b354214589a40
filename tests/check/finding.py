"""What a rule finds in a task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestra.check.contract import RULES
from orchestra.check.subject import Subject
from orchestra.testing import find


def finding(name: str, subject: Subject, task_class: Any = None, **tables: Any) -> Any:
    """What that rule finds in the subject with another task class."""
    rule = next(rule for rule in RULES if rule.name == name)
    return find(rule, replace(subject, task_class=task_class or subject.task_class, **tables))
