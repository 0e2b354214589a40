"""From a request to a queued run; `dispatch` then gives it a supervisor.

Nothing is left behind if this fails or is interrupted before the registry row exists.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orchestra import __version__
from orchestra.config.schema import FileConfig
from orchestra.provenance.client import Pending, Snapshot, start_snapshot
from orchestra.provenance.environment import capture, record_environment
from orchestra.registry.configs import config_document
from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.asked import note_asked
from orchestra.schedule.initial import check_initial, copy_initial, initial_values
from orchestra.schedule.labels import check_remark, check_tags
from orchestra.schedule.names import check_name, default_names
from orchestra.schedule.staging import Stage, building, make_runs_folder, new_stage
from orchestra.schedule.submission import Given, demand_of, points, said_of
from orchestra.wire.errors import UsageError
from orchestra.wire.files import write_atomic, write_json
from orchestra.wire.folders import RunFolder
from orchestra.wire.job import JobState
from orchestra.wire.labels import Labels
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace

if TYPE_CHECKING:
    from orchestra.config.compose import Composed
    from orchestra.config.schema import RunConfig
    from orchestra.schedule.preflight import Finding
    from orchestra.schedule.submission import Member, Submission

VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What a request means: the composed config and what the pre-flight found."""

    composed: Composed
    findings: tuple[Finding, ...]
    entry: QueueEntry
    upstream: Mapping[str, Any] | None
    """What a pretrained one is, for the record (see schedule.upstreams)."""
    members: tuple[tuple[Given, ...], ...] = ()
    """Of a parent run: what each has for itself; empty where one run is meant."""


@dataclass(frozen=True)
class Submitted:
    """A run that has its row. `notes` are sentences to say aloud."""

    run_id: str
    name: str
    folder: RunFolder
    notes: tuple[str, ...]

    @property
    def key(self) -> JobKey:
        """For `launch`, `watch` and so on."""
        return JobKey(self.run_id)


def plan(
    workspace: Workspace, submission: Submission, *, tell: Callable[[str], None] | None = None
) -> Plan:
    """Compose and look (errors as `staged`).

    Nothing is written, unless `tell` is there to take what is said of it: then the weights of a
    pretrained upstream are fetched too, and the disk that the feature cache needs is told.
    """
    # Here and not above: `staged` starts git before these 100 ms of imports.
    from orchestra.config.compose import compose
    from orchestra.schedule.deferred import placeholders, queue_entry
    from orchestra.schedule.preflight import FEATURE_CACHE, Finding, preflight
    from orchestra.schedule.upstreams import with_upstream

    entry = queue_entry(
        workspace,
        priority=submission.priority,
        after=submission.after,
        init_from=submission.init_from,
    )
    if submission.init_from is not None:
        if entry.init_from:
            initial = placeholders(workspace, entry)
        else:
            initial = initial_values(workspace, submission.init_from)
        submission = replace(submission, given=(*submission.given, *initial))
    composed = compose(submission.request(workspace.root))
    found = preflight(
        composed.config,
        workspace.runs,
        cpu_command=submission.cpu_command,
        root=workspace.root,
        is_new=True,
    )
    if tell is not None:
        for finding in found:
            if finding.what == FEATURE_CACHE:
                tell(f"{finding.what}: {finding.detail}")
    composed, upstream = with_upstream(composed, found, tell)
    if entry.after:
        found.append(Finding("after", f"run {entry.after} is completed"))
    if entry.init_from:
        found.append(Finding("init", f"{entry.init_from} of that time"))
    elif composed.config.init is not None:
        found.append(Finding("init", check_initial(composed.config.init)))
    alone = submission.original is not None or submission.member is not None
    members = () if alone else points(composed.config.each, submission.sets)
    return Plan(composed, tuple(found), entry, upstream, tuple(members))


def plan_rows(made: Plan) -> list[tuple[str, str]]:
    """The plan for people: what, and how it will be."""
    config = made.composed.config
    launch = config.launch
    return [
        ("task", f"{config.task.kind} ({made.composed.task.folder})"),
        ("device", f"{launch.device}, {launch.nproc} rank{'s' if launch.nproc > 1 else ''}"),
        ("ends", ", ".join(f"{key} = {limit}" for key, limit in config.train.limits().items())),
        ("step", f"{config.batch.seconds:g} s in {config.batch.micro_batches} micro-batches"),
        ("seed", str(config.seed)),
        *([("members", _members(made.members))] if made.members else []),
        *([("changed", ", ".join(made.composed.changed))] if made.composed.changed else []),
        *((finding.what, finding.detail) for finding in made.findings),
        ("config", f"sha256 {made.composed.sha256}"),
    ]


def _members(members: Sequence[tuple[Given, ...]]) -> str:
    said = "; ".join(said_of(point) for point in members)
    return f"{len(members)}: {said} (--set KEY=VALUE trains one)"


class Staged:
    """A run that is whole on disk but not yet known to anybody."""

    def __init__(
        self,
        stage: Stage,
        row: NewRun,
        registry: Registry,
        notes: Sequence[str],
        plan: Plan,
    ) -> None:
        self._stage = stage
        self._row = row
        self._registry = registry
        self._notes = tuple(notes)
        self.plan = plan

    @property
    def run_id(self) -> str:
        return self._row.id

    def commit(self) -> Submitted:
        """Make it a queued run (ConflictError if its name is taken)."""
        folder = self._stage.publish()
        with self._registry.bulk():
            self._registry.create_run(self._row)
            note_asked(self._registry, JobKey(self._row.id), "run")
        return Submitted(self._row.id, self._row.name, folder, self._notes)


@contextlib.contextmanager
def staged(
    workspace: Workspace,
    submission: Submission,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Staged]:
    """A run that is ready to `commit`; if the block ends without that, nothing is left of it.

    `tell` takes what is said while the upstream is fetched, which may take long.

    Raises:
        ConfigErrors, PreflightError, ConflictError: the config, or something it needs, is wrong.
        NotFoundError, BadCheckpointError: so are the initial weights.
        OrchestraError: git can't snapshot the tree (UsageError), a folder can't be written.
    """
    if submission.name is not None:
        check_name(submission.name)
    labels = Labels(tags=check_tags(submission.tags), remark=check_remark(submission.remark))
    make_runs_folder(workspace.runs)
    # Opened first: a registry rebuilt from run folders must not see this one half made.
    with open_registry(workspace.runs) as registry, building(workspace.runs):
        stage: Stage | None = None
        pending: Pending | None = None
        try:
            with _interrupts_wait():  # what is made here is known to the tidying below
                stage = new_stage(workspace.runs)
                # git works while the config is composed and the data looked at.
                pending = start_snapshot(
                    workspace.root, workspace.runs.path, stage.run_id, stage.folder.patch
                )
            made = plan(workspace, submission, tell=tell)
            environment = capture()
            snapshot = pending.result()
            _check_own_upstream(made.composed.config, snapshot)
            if made.composed.config.init is not None and not made.entry.init_from:
                copy_initial(made.composed.config.init, stage.folder.init)
            name = submission.name or _free_name(registry, made.composed, stage.run_id)
            row = _row(stage.run_id, name, made, snapshot, labels, submission.member)
            if labels != Labels():
                labels.write(stage.folder)
            _write(stage.folder, row, made, snapshot, environment, submission)
            notes = (*registry.notes, *made.composed.notes, *snapshot.warnings)
            yield Staged(stage, row, registry, notes, made)
        finally:
            with _interrupts_wait():
                if stage is not None and not registry.knows(stage.run_id):
                    _undo(stage, pending)


def _check_own_upstream(config: RunConfig, snapshot: Snapshot) -> None:
    """UsageError unless the snapshot has the file of a user's own upstream."""
    upstream = config.upstream
    if isinstance(upstream, FileConfig) and not (snapshot.code / upstream.source).is_file():
        raise UsageError(
            f"upstream {upstream.name!r}: the run's snapshot has no {upstream.source}, because git "
            "ignores it: take it out of .gitignore"
        )


def _free_name(registry: Registry, composed: Composed, run_id: str) -> str:
    config = composed.config
    names = default_names(config.task.kind, config.upstream.name, run_id)
    return next(name for name in names if not registry.is_held(name))


def _row(
    run_id: str,
    name: str,
    made: Plan,
    snapshot: Snapshot,
    labels: Labels,
    member: Member | None,
) -> NewRun:
    config = made.composed.config
    return NewRun(
        id=run_id,
        name=name,
        task=config.task.kind,
        upstream=config.upstream.name,
        created_at=time.time(),
        max_steps=config.train.max_steps,
        config_sha256=made.composed.sha256,
        metric=config.checkpoint.metric,
        git_commit=snapshot.commit,
        git_branch=snapshot.branch,
        git_dirty=snapshot.dirty,
        git_tree=snapshot.tree,
        demand=demand_of(config.launch, made.entry),
        config=config_document(made.composed.toml),
        tags=labels.tags,
        remark=labels.remark,
        parent=member.parent if member else "",
        member=member.said if member else "",
    )


def _write(
    folder: RunFolder,
    row: NewRun,
    made: Plan,
    snapshot: Snapshot,
    environment: dict[str, object],
    submission: Submission,
) -> None:
    """All files of the new run; run.json, by which a folder is known as a run, comes last."""
    write_atomic(folder.job.config, made.composed.toml)
    write_json(folder.job.origins, made.composed.origins)
    if made.entry != QueueEntry():
        made.entry.write(folder.job)
    record_environment(folder.job)
    write_json(
        folder.provenance,
        {**snapshot.to_json(), "environment": environment, "upstream": made.upstream},
    )
    JobState(RunState.QUEUED, "", attempt=0, updated_at=row.created_at).write(folder.job)
    write_json(
        folder.identity,
        {
            "version": VERSION,
            "orchestra": __version__,
            "id": row.id,
            "name": row.name,
            "task": row.task,
            "upstream": row.upstream,
            "created_at": row.created_at,
            "config_sha256": made.composed.sha256,
            "argv": list(submission.argv),
            "clone_of": submission.original.run_id if submission.original else None,
            "parent": row.parent or None,
            "member": row.member or None,
        },
    )


def _undo(stage: Stage, pending: Pending | None) -> None:
    """Leave nothing: no process, no git reference, no folder."""
    try:
        if pending is not None:
            pending.cancel()  # first: it may be writing into the folder
    finally:
        stage.discard()


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """A Ctrl-C takes effect at the end of the block."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
