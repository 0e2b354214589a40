"""From a task, presets and flags to one frozen config, with all errors at once.

Order: model defaults < what presets extend < presets < flags < `--set`; then references, types,
derived values, absolute paths, freeze. In the place of presets may stand the frozen config of
another run. Reads files; writes none.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from orchestra.config import frozen
from orchestra.config.absolute import absolute_paths
from orchestra.config.flags import SET, Flag, flag_layer, set_layer
from orchestra.config.interpolate import escape, interpolate
from orchestra.config.keys import Schema
from orchestra.config.layers import Layer, Merged, Setting, flatten, merge
from orchestra.config.presets import PresetInfo, find_preset, list_presets
from orchestra.config.problems import ConfigErrors, KeyPath, Problem, dotted, shown
from orchestra.config.read import PresetReader
from orchestra.config.schema import (
    INCOMPLETE,
    RunConfig,
    micro_batches,
    run_config_model,
    unfit_ranks,
)
from orchestra.config.shadows import ORIGIN, shadowed
from orchestra.config.upstream_names import resolve_upstream
from orchestra.config.validation import Finding, findings
from orchestra.settings import workspace_settings
from orchestra.tasks import TaskInfo, find_task
from orchestra.wire.errors import UsageError
from orchestra.wire.files import read_json

__all__ = ["Base", "Composed", "ConfigErrors", "Flag", "Request", "compose", "override"]

_SEEDS = 2**31
_TASK_ARGUMENT = "TASK"
_V = ("batch", "micro_batches")
_DERIVED = "derived"


@dataclass(frozen=True)
class Base:
    """The frozen config of another run."""

    path: Path
    name: str
    """How the origins of its values call it."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    workspace: Path
    task: str
    presets: tuple[str, ...] = ()
    """Names or files, later ones win."""
    upstream: str | None = None
    flags: tuple[Flag, ...] = ()
    sets: tuple[str, ...] = ()
    base: Base | None = None
    """In the place of presets, the task's own too: what it leaves unset stays unset."""


@dataclass(frozen=True)
class Composed:
    """A config ready to run."""

    config: RunConfig
    task: TaskInfo
    toml: bytes
    """The frozen form."""
    sha256: str
    origins: dict[str, str]
    """Dotted key -> `file:line`, flag, "default", "derived" or "drawn"."""
    notes: tuple[str, ...]
    """Sentences to say aloud."""
    history: tuple[Setting, ...]
    """All values that layers gave, lowest first, before references are resolved."""
    changed: tuple[str, ...] = ()
    """Of `override`, and from a base: the keys whose value differs from the frozen config's."""


def compose(request: Request) -> Composed:
    """The config that a request means.

    Raises:
        ConfigErrors: anything is wrong with files, flags, keys or values; all of it is listed.
        NotFoundError: there is no such task.
        UsageError: the task's own config.py can't be used.
    """
    workspace = request.workspace.absolute()
    task = find_task(request.task, workspace)
    if request.base is not None:
        return _compose_upon(request.base, request, task, workspace)
    reader = PresetReader(workspace)
    presets, problems = _presets(request, task, workspace)
    layers = [Layer(_TASK_ARGUMENT, {"task": {"kind": task.name}}, {})]
    for preset in presets:
        layers += reader.read(preset)
    problems += reader.problems
    flags, wrong_flags = _flags(request, workspace)
    composer = _Composer(
        task,
        workspace,
        problems + wrong_flags,
        complete=not problems,
        aliases=workspace_settings(workspace).upstreams,
    )
    return composer.compose([*layers, flags], request.sets, _notes(task, presets, workspace))


def _compose_upon(base: Base, request: Request, task: TaskInfo, workspace: Path) -> Composed:
    """The config of a new run that is like another one."""
    document = frozen.load(base.path)
    derived = _recorded_origins(base.path, document).get(_V) == _DERIVED
    layer = Layer(base.name, escape(document), {_V: _DERIVED} if derived else {})
    notes = [*_notes(task, [], workspace), *_release_v(layer, request.sets)]
    flags, problems = _flags(request, workspace)
    aliases = workspace_settings(workspace).upstreams
    composer = _Composer(task, workspace, problems, v_may_change=derived, aliases=aliases)
    return _compared(document, composer.compose([layer, flags], request.sets, notes))


def override(
    path: Path,
    code: Path,
    sets: tuple[str, ...],
    *,
    flags: tuple[Flag, ...] = (),
    workspace: Path | None = None,
    training: bool = True,
) -> Composed:
    """A frozen config with some values changed, for `resume --set` and `eval --set`.

    V (batch.micro_batches) stays as frozen unless the batch itself changes; an evaluation
    (`training` false) takes any number of ranks. Relative paths in `sets` are relative to
    `workspace` (default: the current folder).

    Raises:
        ConfigErrors: the changes don't fit; all errors are listed.
        UsageError: the frozen config is missing or broken.
        NotFoundError: `code` does not have the run's task.
    """
    document = frozen.load(path)
    task = frozen.task_of(document, path, code)
    base = Layer(str(path), escape(document), _recorded_origins(path, document))
    notes = _release_v(base, sets)
    composer = _Composer(task, (workspace or Path.cwd()).absolute(), [], training=training)
    return _compared(document, composer.compose([base, flag_layer(flags)], sets, notes))


def _compared(document: dict[str, Any], composed: Composed) -> Composed:
    """`composed` with what is not as in the frozen `document`."""
    after = dict(flatten(tomli.loads(composed.toml.decode())))
    before = dict(flatten(document))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return replace(composed, changed=tuple(dotted(key) for key in keys))


class _Composer:
    """Lays layers over each other and freezes the result; gathers problems on the way."""

    def __init__(
        self,
        task: TaskInfo,
        workspace: Path,
        problems: list[Problem],
        *,
        complete: bool = True,
        training: bool = True,
        v_may_change: bool = False,
        aliases: Sequence[tuple[str, Path]] | None = None,
    ) -> None:
        """`aliases`: folders that stand for hub ids (see shadows.py); None: all is decided."""
        self._task = task
        self._workspace = workspace
        self._problems = problems
        self._complete = complete
        self._training = training
        self._v_may_change = v_may_change
        self._aliases = aliases
        self._model = run_config_model(task.config_model())

    def compose(self, layers: list[Layer], sets: tuple[str, ...], notes: list[str]) -> Composed:
        """The frozen config (ConfigErrors)."""
        top, wrong = set_layer(sets, Schema(self._model, {}))
        self._problems += wrong
        merged = merge([*layers, top])
        computed: dict[str, str] = {}
        if "seed" not in merged.document:
            merged.document["seed"] = secrets.randbelow(_SEEDS)
            computed["seed"] = "drawn"
        config = self._validated(merged)
        v = config.batch.micro_batches
        if v is not None and self._v_may_change and unfit_ranks(v, config.launch.nproc):
            notes = [*notes, f"{dotted(_V)} was {v} and is derived anew for launch.nproc"]
            v = None
        if v is None:
            config = _with_v(config)
            computed[dotted(_V)] = _DERIVED
        elif self._training:
            _check_v(config, merged)
        config, said = self._placed(config, computed)
        notes = [*notes, *said]
        toml = frozen.dump(config)
        leaves = [path for path, _ in flatten(tomli.loads(toml.decode()))]
        return Composed(
            config=config,
            task=self._task,
            toml=toml,
            sha256=frozen.sha256_of(toml),
            origins={
                dotted(path): computed.get(dotted(path)) or merged.origin(path) or "default"
                for path in leaves
            },
            notes=tuple(notes),
            history=tuple(merged.history),
        )

    def _placed(self, config: RunConfig, computed: dict[str, str]) -> tuple[RunConfig, list[str]]:
        """`config` with absolute paths, and with local folders for models of the hub."""
        absolute = absolute_paths(config, self._workspace)
        if self._aliases is None:
            return absolute, []
        upstream, notes, keys = shadowed(config.upstream, absolute.upstream, self._aliases)
        computed |= dict.fromkeys(keys, ORIGIN)
        return absolute.model_copy(update={"upstream": upstream}), notes

    def _validated(self, merged: Merged) -> RunConfig:
        """The typed config, or ConfigErrors with all problems so far and those found here."""
        self._check_task(merged)
        document = Schema(self._model, merged.document).completed()
        schema = Schema(self._model, document)
        document, wrong = interpolate(
            document, schema.defaults(), merged.place, complete=self._complete
        )
        self._problems += wrong
        try:
            config = frozen.validate(document, self._task)
        except ValidationError as error:
            for finding in findings(error, document):
                self._problems += self._explained(finding, merged, schema)
        if self._problems:
            raise ConfigErrors(self._problems)
        return config

    def _check_task(self, merged: Merged) -> None:
        table = merged.document.get("task")
        kind = table.get("kind") if isinstance(table, dict) else None
        if isinstance(table, dict) and kind != self._task.name:
            place = merged.place(("task", "kind"))
            text = f"the config is for {kind!r}, but the command runs {self._task.name!r}"
            self._problems.append(Problem("task", place, text))

    def _explained(self, finding: Finding, merged: Merged, schema: Schema) -> list[Problem]:
        """A finding with its places and a hint; none if it only follows from another problem."""
        key = dotted(finding.path)
        if any(_related(key, problem.key) for problem in self._problems if problem.key):
            return []
        if finding.kind == "missing":
            return [Problem(key, "", self._missing(finding, merged))] if self._complete else []
        if finding.kind == INCOMPLETE and not self._complete:
            return []
        places = merged.places(finding.path) or [""]
        if finding.kind == "extra_forbidden":
            text = f"{finding.text}; {schema.nearest(finding.path)}"
            return [Problem(key, place, text) for place in places]
        return [Problem(key, places[-1], finding.text)]

    def _missing(self, finding: Finding, merged: Merged) -> str:
        path = finding.path
        if path[0] == "upstream" and len(path) == 1:
            return f"{finding.text}: --upstream NAME"
        if path[0] == "init":
            return f"{finding.text}: --init-from RUN|DIR"
        text = f"{finding.text}: a preset, or {SET} {dotted(path)}=VALUE"
        replaced = merged.replaced.get(path[:-1])
        if replaced:
            text += f" (another kind in {replaced} replaced all of {dotted(path[:-1])})"
        return text


def _related(key: str, other: str) -> bool:
    """Whether the keys are one, or one lies in the other."""
    short, long = sorted((key, other), key=len)
    return long == short or long.startswith((short + ".", short + "["))


def _presets(
    request: Request, task: TaskInfo, workspace: Path
) -> tuple[list[PresetInfo], list[Problem]]:
    """The task's own preset where there is one, then those asked for."""
    presets = [preset for preset in list_presets(workspace) if preset.name == task.name]
    problems = []
    for name in request.presets:
        try:
            presets.append(find_preset(name, workspace))
        except UsageError as error:
            problems.append(Problem("", "--preset", str(error)))
    return presets, problems


def _flags(request: Request, workspace: Path) -> tuple[Layer, list[Problem]]:
    """`--upstream` and the other flags; the last flag of a key wins."""
    upstream: list[Flag] = []
    problems = []
    if request.upstream is not None:
        try:
            table = resolve_upstream(request.upstream, workspace)
            upstream = [Flag(f"upstream.{key}", table[key], "--upstream") for key in table]
        except UsageError as error:
            problems.append(Problem("upstream", "--upstream", str(error)))
    return flag_layer([*upstream, *request.flags]), problems


def _notes(task: TaskInfo, presets: list[PresetInfo], workspace: Path) -> list[str]:
    """What shadows what."""
    pairs = [("task", task.name, task.folder, task.shadows)]
    pairs += [("preset", preset.name, preset.path, preset.shadows) for preset in presets]
    return [
        f"{what} {name!r} is {shown(path, workspace)}, not the built-in one"
        for what, name, path, shadows in pairs
        if shadows is not None
    ]


def _with_v(config: RunConfig) -> RunConfig:
    batch = config.batch
    v = micro_batches(batch.seconds, batch.max_micro_seconds, config.launch.nproc)
    return config.model_copy(update={"batch": batch.model_copy(update={_V[-1]: v})})


def _check_v(config: RunConfig, merged: Merged) -> None:
    """ConfigErrors unless every rank gets as many micro-batches as the others."""
    v = config.batch.micro_batches
    text = None if v is None else unfit_ranks(v, config.launch.nproc)
    if text is None:
        return
    raise ConfigErrors([Problem("launch.nproc", merged.place(("launch", "nproc")), text)])


def _release_v(base: Layer, sets: tuple[str, ...]) -> list[str]:
    """Forget the frozen V if `sets` change the batch that it was derived from."""
    keys = {text.partition("=")[0].strip() for text in sets}
    changed = sorted(keys & {"batch.seconds", "batch.max_micro_seconds"})
    if not changed or dotted(_V) in keys:
        return []
    v = base.document["batch"].pop(_V[-1], None)
    return [f"{dotted(_V)} was {v} and is derived anew, because {' and '.join(changed)} changed"]


def _recorded_origins(path: Path, document: dict[str, Any]) -> dict[KeyPath, str]:
    """The origins that lie beside a frozen config; none if there is no such file."""
    try:
        recorded = read_json(path.with_name("origins.json"))
    except FileNotFoundError:
        return {}
    return {key: recorded.get(dotted(key), path.name) for key, _ in flatten(document)}
