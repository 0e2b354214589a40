"""For the tests of tasks: a task on its tiny corpus, to be held against the contract.

    @pytest.fixture(scope="module")
    def subject(tmp_path_factory):
        return subject_of("mine", WORKSPACE, tmp_path_factory.mktemp("mine"))

    @pytest.mark.parametrize("rule", RULES, ids=str)
    def test_contract(rule, subject):
        finding = find(rule, subject)
        assert finding.ok, finding.text

In one process, on the CPU; the only module that knows both planes.
"""

from __future__ import annotations

from pathlib import Path

from orchestra.check.contract import RULES, Finding, Rule, find
from orchestra.check.corpus import make_corpus
from orchestra.check.subject import Subject
from orchestra.schedule.check_task import plan_check

__all__ = ["RULES", "Finding", "Rule", "Subject", "find", "subject_of"]


def subject_of(
    name: str,
    workspace: Path,
    folder: Path,
    *,
    presets: tuple[str, ...] = (),
    sets: tuple[str, ...] = (),
) -> Subject:
    """The task `name` of a workspace as `orchestra task check` looks at it.

    Args:
        folder: an empty one, where its tiny corpus is made (see schedule.check_task.plan_check).

    Raises:
        NotFoundError, UsageError, DataError: there is no such task, or it can't be used.
    """
    planned = plan_check(name, workspace, folder, presets=presets, sets=sets)
    config, task = planned.composed.config, planned.composed.task
    if planned.makes_corpus:
        assert config.data.root and config.data.manifests
        make_corpus(task.name, workspace, config.data.root, config.data.manifests)
    return Subject.of(config, task)
