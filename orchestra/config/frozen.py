"""The frozen config: written once when a run is made, read again by whatever runs it.

Both planes import this module (see schema.py); the schema and the task's own model decide, nothing
is composed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import tomli
import tomli_w
from pydantic import ValidationError

from orchestra.config.problems import dotted
from orchestra.config.schema import RunConfig, run_config_model
from orchestra.config.validation import findings
from orchestra.tasks import TaskInfo, find_task
from orchestra.wire.errors import UsageError


def validate(document: dict[str, Any], task: TaskInfo) -> RunConfig:
    """`document` as a typed config.

    Validated strictly through its JSON form: text then may become a path or an enum, but "3" is
    no number and "no" is no boolean.

    Raises:
        pydantic.ValidationError: all that is wrong with it.
    """
    model = run_config_model(task.config_model())
    return model.model_validate_json(json.dumps(document, default=str))


def dump(config: RunConfig) -> bytes:
    """The config as TOML, defaults included; keys without a value (None) are left out."""
    document = config.model_dump(mode="json", exclude_none=True)
    return tomli_w.dumps(document).encode()


def sha256_of(toml: bytes) -> str:
    """The identity of a frozen config, in hexadecimal."""
    return hashlib.sha256(toml).hexdigest()


def load(path: Path) -> dict[str, Any]:
    """The document of a frozen config.

    Raises:
        UsageError: the file is missing or is not TOML.
    """
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise UsageError(f"{path} is not a frozen config: {error}") from error


def read_frozen(path: Path, code: Path) -> tuple[RunConfig, TaskInfo]:
    """The frozen config in `path` and its task as found in the code folder `code`.

    Raises:
        UsageError: the file is missing or broken, or this code can't use it; each key is named.
        NotFoundError: `code` has no such task.
    """
    document = load(path)
    task = task_of(document, path, code)
    try:
        return validate(document, task), task
    except ValidationError as error:
        wrong = [f"{dotted(f.path)}: {f.text}" for f in findings(error, document)]
        raise UsageError(
            f"{path} does not fit the code in {code}:\n  " + "\n  ".join(wrong)
        ) from error


def task_of(document: dict[str, Any], path: Path, code: Path) -> TaskInfo:
    """The task that a frozen document names (UsageError, NotFoundError as `read_frozen`)."""
    table = document.get("task")
    kind = table.get("kind") if isinstance(table, dict) else None
    if not isinstance(kind, str):
        raise UsageError(f"{path} is not a frozen config: it has no task.kind")
    return find_task(kind, code)
