"""What a task learns from its training split is kept once, and given to every later process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestra.config.schema import InitConfig
from orchestra.tasks import find_task
from orchestra.train import checkpoint, learnt
from orchestra.train.weights import require_same_learnt
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.folders import RunFolder
from orchestra.wire.manifest import Utterance
from orchestra.wire.weights import EXPORT
from tests.exactness.launching import WORKSPACE


class Learner:
    """As much of a task as is needed: it learns the ids."""

    def __init__(self) -> None:
        self.recalled: Mapping[str, Any] = {}

    def learn(self, utterances: list[Utterance]) -> dict[str, Any]:
        return {"classes": sorted(utterance.id for utterance in utterances)}

    def recall(self, found: Mapping[str, Any]) -> None:
        self.recalled = found


def utterances(*ids: str) -> list[Utterance]:
    return [Utterance(each, Path("x"), 0.0, 1.0, {}) for each in ids]


def recalled(run: RunFolder, *ids: str, writes: bool = True) -> Mapping[str, Any]:
    task: Any = Learner()
    learnt.learn(task, utterances(*ids), run, writes=writes)
    return task.recalled  # type: ignore[no-any-return]


def test_the_first_attempt_learns_and_later_ones_recall(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert recalled(run, "b", "a") == {"classes": ["a", "b"]}
    assert recalled(run, "c") == {"classes": ["a", "b"]}
    assert learnt.read(run) == {"classes": ["a", "b"]}


def test_a_rank_that_does_not_write_learns_the_same(tmp_path: Path) -> None:
    assert recalled(RunFolder(tmp_path), "b", writes=False) == {"classes": ["b"]}
    assert not any(tmp_path.iterdir())
    assert learnt.read(RunFolder(tmp_path)) == {}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "learnt.json").write_text("{")
    with pytest.raises(DataError, match=r"learnt\.json"):
        recalled(RunFolder(tmp_path), "a")


def test_it_stands_beside_weights(tmp_path: Path) -> None:
    old, new, export = (tmp_path / name for name in ("old", "new", "export"))
    for folder in (old, new, export):
        folder.mkdir()
    (old / checkpoint.STATE).write_text("{}")
    (new / checkpoint.STATE).write_text(json.dumps({"learnt": {"classes": ["a"]}}))
    (export / EXPORT).write_text("{}")
    (export / learnt.FILE).write_text(json.dumps({"version": 1, "learnt": {"classes": ["a"]}}))
    assert learnt.of_weights(old) is None
    assert learnt.of_weights(new) == learnt.of_weights(export) == {"classes": ["a"]}


@pytest.mark.parametrize(
    ("parts", "theirs", "fits"),
    [
        ([], {"classes": ["a", "b"]}, True),
        ([], {"classes": ["b", "a"]}, False),
        (["head.out"], {"classes": ["b", "a"]}, False),
        (["featurizer"], {"classes": ["b", "a"]}, True),
        ([], None, True),
    ],
)
def test_a_head_of_other_classes_is_refused(
    parts: list[str], theirs: dict[str, Any] | None, fits: bool
) -> None:
    init = InitConfig(source="first", folder=Path("/x"), sha256="0", parts=parts)
    if fits:
        require_same_learnt(init, theirs, {"classes": ["a", "b"]})
        return
    with pytest.raises(UsageError, match="head of first was trained for other classes"):
        require_same_learnt(init, theirs, {"classes": ["a", "b"]})


def test_aliases_find_a_task(tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.py").write_text(
        "from typing import ClassVar, Literal\n"
        "from orchestra.config.schema import TaskConfig\n"
        "class Config(TaskConfig):\n"
        "    aliases: ClassVar[tuple[str, ...]] = ('yours',)\n"
        "    kind: Literal['mine'] = 'mine'\n"
    )
    assert find_task("yours", tmp_path).name == "mine"
    assert find_task("probe", WORKSPACE).name == "probe"
