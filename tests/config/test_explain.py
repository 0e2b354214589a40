"""Explanations list every layer that set a key; the schema is one for partial files."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config.compose import Request, compose, override
from orchestra.config.explain import explain, json_schema
from orchestra.config.layers import Setting
from orchestra.tasks import find_task
from orchestra.wire.errors import UsageError
from orchestra.wire.files import write_json

from .conftest import Write


def test_every_layer_of_a_key(workspace: Path, write: Write) -> None:
    write("p", "\n[launch]\nthreads = 2")
    composed = compose(Request(workspace, "toy", ("p",), sets=("launch.threads=${launch.nproc}",)))
    found = explain(composed, "launch.threads")
    assert found.settings == (
        Setting("launch.threads", 1, "default"),
        Setting("launch.threads", 2, "presets/p.toml:3"),
        Setting("launch.threads", "${launch.nproc}", "--set"),
    )
    assert (found.value, found.origin) == (1, "--set")
    assert found.description.startswith("Intra-op threads")


def test_a_frozen_config_explains_itself(workspace: Path) -> None:
    composed = compose(Request(workspace, "toy"))
    path = workspace / "config.toml"
    path.write_bytes(composed.toml)
    write_json(workspace / "origins.json", composed.origins)
    found = explain(override(path, workspace, ("optim.lr=2.0",)), "optim.lr")
    assert found.settings == (
        Setting("optim.lr", 1e-3, "presets/toy.toml:10"),
        Setting("optim.lr", 2.0, "--set"),
    )
    defaults = explain(override(path, workspace, ()), "optim.eps").settings
    assert defaults == (Setting("optim.eps", 1e-8, "default"),)


def test_tables_and_task_keys(workspace: Path) -> None:
    composed = compose(Request(workspace, "toy", sets=("task.word=x",)))
    assert explain(composed, "task.word").description == "What is said."
    batch = explain(composed, "batch")
    values = {"seconds": 10.0, "max_micro_seconds": 4.0, "micro_batches": 3}
    assert batch.value == {**values, "too_long": "refuse"}
    assert [setting.key for setting in batch.settings] == [
        "batch.seconds",
        "batch.max_micro_seconds",
    ]
    with pytest.raises(UsageError, match=r"did you mean batch.seconds\?"):
        explain(composed, "batch.second")


def test_schema_of_presets(workspace: Path) -> None:
    schema = json_schema(find_task("toy", workspace))
    assert "required" not in schema
    assert schema["additionalProperties"] is False
    assert {"extends", "task", "optim"} <= schema["properties"].keys()
    lr, reference = schema["$defs"]["OptimConfig"]["properties"]["lr"]["anyOf"]
    assert (lr["type"], reference["type"]) == ("number", "string")
    assert "word" in schema["$defs"]["Config"]["properties"]
