"""Why a document is validated strictly through its JSON form: the two other ways fail."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestra.config.frozen import validate
from orchestra.config.schema import RunConfig, run_config_model
from orchestra.tasks import TaskInfo, find_task


@pytest.fixture
def task() -> TaskInfo:
    return find_task("example", Path("/nowhere"))


def document(**tables: dict[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "seed": 1,
        "task": {"kind": "example"},
        "upstream": {"kind": "fbank"},
        "data": {"root": "/corpus"},
        "batch": {"seconds": 8.0, "max_micro_seconds": 4.0, "micro_batches": 2},
        "optim": {"lr": 0.1},
        "train": {"max_steps": 3, "eval_every": 3},
        "checkpoint": {"every": 3},
    }
    return {**whole, **tables}


def test_a_path_may_be_text_but_no_is_no_boolean(task: TaskInfo) -> None:
    config: RunConfig = validate(document(), task)
    assert config.data.root == Path("/corpus")
    with pytest.raises(ValidationError, match="valid boolean"):
        validate(document(launch={"oom_split": "no"}), task)


def test_control_strict_on_python_objects_refuses_a_path(task: TaskInfo) -> None:
    model = run_config_model(task.config_model())
    with pytest.raises(ValidationError, match="instance of Path"):
        model.model_validate(document(), strict=True)


def test_control_lax_turns_no_into_false(task: TaskInfo) -> None:
    model = run_config_model(task.config_model())
    found = model.model_validate(document(launch={"oom_split": "no"}), strict=False)
    assert found.launch.oom_split is False


@pytest.mark.parametrize(
    ("name", "augment", "message"),
    [
        ("asr", {"crop_s": 8.0}, r"leave out augment\.crop_s: the labels of task 'asr' .* was cut"),
        ("asr", {"speed": {}}, None),
        ("pr", {"crop_s": 8.0}, "was cut"),
        ("sf", {"crop_s": 8.0}, "was cut"),
        ("sd", {"crop_s": 8.0}, "was cut"),
        ("sid", {"crop_s": 8.0}, None),
        ("asv", {"speed": {}}, "another speed"),
        ("example", {"speed": {}}, r"augment\.speed: .* 'example' .* at another speed"),
        ("example", {"noise": {"manifest": "n/a.jsonl"}}, None),
    ],
)
def test_augmentation_that_makes_labels_untrue_is_refused(
    name: str, augment: dict[str, Any], message: str | None
) -> None:
    task = find_task(name, Path("/nowhere"))
    whole = document(augment=augment, task={"kind": name})
    with pytest.raises(ValidationError, match=message) if message else nullcontext():
        validate(whole, task)
