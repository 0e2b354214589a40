"""The frozen config of a run, found by any reference to the run; freezing it anew if it changes."""

from __future__ import annotations

import json
import tomllib

from orchestra.config.compose import Composed, override
from orchestra.config.layers import flatten
from orchestra.config.problems import dotted
from orchestra.registry.configs import config_document
from orchestra.registry.store import Registry
from orchestra.schedule.listing import find_run
from orchestra.supervise.launch import code_folder
from orchestra.wire.files import write_atomic, write_json
from orchestra.wire.folders import RunFolder
from orchestra.workspace import Workspace


def frozen_config(workspace: Workspace, reference: str, sets: tuple[str, ...] = ()) -> Composed:
    """The config that the run trains with, changed by `sets`.

    Raises:
        NotFoundError: no such run.
        UsageError, OrchestraError: its folder is damaged.
    """
    job = workspace.runs.run(find_run(workspace, reference)).job
    code = code_folder(workspace.runs, job)
    return override(job.config, code, sets, workspace=workspace.root)


def refreeze(run: RunFolder, registry: Registry, composed: Composed) -> list[str]:
    """Freeze the changed config; the old one stays beside it. What changed, in a sentence."""
    if not composed.changed:
        return []
    number = 1 + len(list(run.path.glob("config.[0-9]*.toml")))
    old = run.job.config.read_bytes()
    write_atomic(run.path / f"config.{number}.toml", old)
    write_json(run.job.origins, composed.origins)
    write_atomic(run.job.config, composed.toml)
    text = f"config changed: {_differences(old, composed)}"
    registry.change_config(run.id, composed.sha256, config_document(composed.toml))
    registry.add_event(run.id, "config", text)
    return [text]


def _differences(old: bytes, composed: Composed) -> str:
    """The changed keys with their values before and after."""
    before, after = (
        {dotted(path): json.dumps(value) for path, value in flatten(tomllib.loads(toml.decode()))}
        for toml in (old, composed.toml)
    )
    return ", ".join(
        f"{key} {before.get(key, 'unset')} -> {after.get(key, 'unset')}" for key in composed.changed
    )
