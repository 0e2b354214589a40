"""The registry: what is written about runs, and the door to open it.

Standard library's sqlite3 only (`orchestra ls` loads this). State changes are compare-and-swap in
one transaction together with their event. Reads are in reads.py, the schema in migrations.py.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestra.registry.database import Database
from orchestra.registry.location import registry_location
from orchestra.registry.naming import missing_run
from orchestra.registry.reads import Reads
from orchestra.registry.rows import (
    Demand,
    JobKey,
    NewRun,
    demand_values,
    new_run_values,
    supervisor_values,
)
from orchestra.wire.errors import ConflictError, NotFoundError, UsageError
from orchestra.wire.states import ENDED, RunState

if TYPE_CHECKING:
    from types import TracebackType

    from orchestra.wire.folders import RunsFolder
    from orchestra.wire.identity import ProcessIdentity
    from orchestra.wire.job import Attempt, JobState

SCHEMA_VERSION = 4

_PROGRESS = ("max_steps", "loss", "audio_s_per_s", "eta_s", "score", "best_score", "metric")
_NO_SUPERVISOR = {"supervisor_pid": None, "supervisor_start_ticks": None, "boot_id": None}


def open_registry(runs: RunsFolder) -> Registry:
    """The registry of these runs, made or brought up to date if need be.

    A missing file is rebuilt from the run folders; one that is not in runs/ takes over what other
    machines did. `notes` of the result are sentences to say
    aloud: where the file lies if not in runs/, what was rebuilt.

    Raises:
        UsageError: a newer orchestra wrote the file.
        OrchestraError: the file is damaged or can't be written.
    """
    location = registry_location(runs)
    path = location.path
    notes: tuple[str, ...] = ()
    if not path.is_file() or path.stat().st_size == 0:
        from orchestra.registry.rebuild import rebuild

        notes = (*((location.note,) if location.note else ()), *rebuild(runs, path))
    database = Database(path)
    version = database.version()
    if version > SCHEMA_VERSION:
        database.close()
        raise UsageError(
            f"{path} was written by a newer orchestra (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): upgrade orchestra"
        )
    if version < SCHEMA_VERSION:
        from orchestra.registry.migrations import migrate

        migrate(path)
    registry = Registry(database, notes)
    if location.note:
        from orchestra.registry.rebuild import adopt

        registry.notes += adopt(runs, registry)
    return registry


class Registry(Reads):
    """Writers and (from Reads) readers. One per thread; several processes may have one each."""

    def __init__(self, database: Database, notes: tuple[str, ...] = ()) -> None:
        super().__init__(database)
        database.insist_on(SCHEMA_VERSION)
        self.notes = notes

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextlib.contextmanager
    def bulk(self) -> Iterator[None]:
        """All writes inside are one transaction."""
        with self._database.write():
            yield

    def create_run(self, row: NewRun) -> None:
        """Record a queued run. Recording the same id again changes nothing.

        Raises:
            ConflictError: another run holds the name.
        """
        with self._database.write() as connection:
            holder = connection.execute(
                "SELECT id FROM runs WHERE name = ? OR id IN (?, ?)", (row.name, row.name, row.id)
            ).fetchone()
            if holder == (row.id,):
                return
            if holder is not None:
                raise _held(row.name, holder[0])
            now = {"state": RunState.QUEUED, "queued_at": time.time()}
            _insert(connection, "runs", {**new_run_values(row), **now})
            _put_config(connection, row.id, row.config_sha256, row.config)
            _event(connection, JobKey(row.id), "state", RunState.QUEUED, row.created_at)

    def delete_run(self, run_id: str) -> None:
        """Forget a run and all that belongs to it (NotFoundError)."""
        with self._database.write() as connection:
            if connection.execute("DELETE FROM runs WHERE id = ?", (run_id,)).rowcount == 0:
                raise missing_run(run_id)

    def transition(
        self,
        key: JobKey,
        expected: Collection[RunState],
        to: RunState,
        *,
        reason: str = "",
        supervisor: ProcessIdentity | None = None,
    ) -> bool:
        """Change the state if it is one of `expected`; False if somebody else was faster.

        A job that goes back to the queue, because its GPUs were lost, keeps its place there.

        Raises:
            NotFoundError: there is no such run or evaluation.
        """
        now = time.time()
        changes: dict[str, Any] = {"state": to, "reason": reason}
        if to is RunState.QUEUED:
            changes |= {"ended_at": None, **_NO_SUPERVISOR}
        if to is RunState.STARTING:
            changes |= {"ended_at": None}
        if to in ENDED:
            changes |= {"ended_at": now, **_NO_SUPERVISOR}
        if supervisor is not None and to not in ENDED:
            changes |= supervisor_values(supervisor)
        with self._database.write() as connection:
            old = _state(connection, key)
            if old not in expected:
                return False
            if to is RunState.QUEUED and old in ENDED:
                changes["queued_at"] = now
            _update(connection, key, changes)
            if to is RunState.STARTING:
                _first_start(connection, key, now)
            _event(connection, key, "state", f"{old} -> {to}" + (f": {reason}" if reason else ""))
        return True

    def restore(
        self, key: JobKey, state: JobState, started_at: float | None, ended_at: float | None
    ) -> None:
        """Take over what the job's folder says, whatever stood here (rebuild)."""
        changes: dict[str, Any] = {
            "state": state.state,
            "reason": state.reason,
            "started_at": started_at,
            "ended_at": ended_at,
        }
        if state.state is RunState.QUEUED:
            changes["queued_at"] = state.updated_at
        if state.supervisor is not None:
            changes |= supervisor_values(state.supervisor)
        if state.state in ENDED:
            changes |= _NO_SUPERVISOR
        with self._database.write() as connection:
            _update(connection, key, changes)

    def progress(self, run_id: str, step: int, values: Mapping[str, float | str | None]) -> None:
        """Update the summary of a run; keys without a column belong to the run's metric store.

        Columns: max_steps, loss, audio_s_per_s, eta_s, score, best_score, metric.
        """
        changes = {name: values[name] for name in _PROGRESS if name in values}
        with self._database.write() as connection:
            _update(connection, JobKey(run_id), {"step": step, **changes})

    def change_config(self, run_id: str, sha256: str, config: str | None) -> None:
        """Record the config that the run goes on with (as NewRun has it)."""
        with self._database.write() as connection:
            _update(connection, JobKey(run_id), {"config_sha256": sha256})
            _put_config(connection, run_id, sha256, config)

    def relabel(self, run_id: str, *, name: str, tags: Sequence[str], remark: str) -> None:
        """Replace the run's name, tags and note.

        Raises:
            ConflictError: another run holds the name.
        """
        with self._database.write() as connection:
            holder = connection.execute(
                "SELECT id FROM runs WHERE (name = ?1 OR id = ?1) AND id != ?2", (name, run_id)
            ).fetchone()
            if holder is not None:
                raise _held(name, holder[0])
            labels = {"name": name, "tags": json.dumps(list(tags)), "remark": remark}
            _update(connection, JobKey(run_id), labels)

    def change_demand(self, key: JobKey, demand: Demand) -> None:
        """Record what the job asks of the queue from now on."""
        with self._database.write() as connection:
            _update(connection, key, demand_values(demand))

    def start_attempt(self, key: JobKey, attempt: Attempt) -> None:
        """Record a launch."""
        with self._database.write() as connection:
            _put_attempt(connection, key, attempt)
            if key.evaluation is None:
                devices = json.dumps(attempt.devices)
                _update(connection, key, {"attempt": attempt.number, "devices": devices})
            ranks = f"{attempt.world_size} rank{'s' if attempt.world_size != 1 else ''}"
            text = f"attempt {attempt.number} started with {ranks}"
            if attempt.first_step:  # as far as is known: the ranks may find that one bad
                text += f"; the newest checkpoint is of step {attempt.first_step}"
            _event(connection, key, "attempt", text, attempt.started_at)

    def update_attempt(self, key: JobKey, attempt: Attempt) -> None:
        """Record what became known while it runs: the pids of agent and ranks."""
        with self._database.write() as connection:
            _put_attempt(connection, key, attempt)

    def end_attempt(self, key: JobKey, attempt: Attempt) -> None:
        """Record how a launch ended."""
        with self._database.write() as connection:
            _put_attempt(connection, key, attempt)
            why = f": {attempt.reason}" if attempt.reason else ""
            after = f" after step {attempt.last_step}" if key.evaluation is None else ""
            text = f"attempt {attempt.number} {attempt.state}{after}{why}"
            _event(connection, key, "attempt", text, attempt.ended_at)

    def add_checkpoint(
        self,
        run_id: str,
        step: int,
        path: str,
        score: float | None,
        metric: str | None,
        *,
        created_at: float,
    ) -> None:
        """Record a committed checkpoint; `path` relative to the run folder."""
        values = {
            "run_id": run_id,
            "step": step,
            "path": path,
            "score": score,
            "metric": metric,
            "created_at": created_at,
        }
        with self._database.write() as connection:
            _insert(connection, "checkpoints", values, replace=True)

    def drop_checkpoint(self, run_id: str, step: int) -> None:
        """Forget a checkpoint that was deleted or quarantined."""
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM checkpoints WHERE run_id = ? AND step = ?", (run_id, step)
            )

    def create_evaluation(
        self,
        run_id: str,
        number: int,
        split: str,
        checkpoint: str,
        *,
        state: RunState = RunState.QUEUED,
        created_at: float | None = None,
        demand: Demand = Demand(),
    ) -> None:
        """Record an evaluation; `state` is running for one that the training ranks do themselves.

        Recording the same number again changes nothing.
        """
        now = time.time() if created_at is None else created_at
        values = {
            "run_id": run_id,
            "number": number,
            "state": state,
            "split": split,
            "checkpoint": checkpoint,
            "created_at": now,
            "queued_at": now,
            "started_at": None if state is RunState.QUEUED else now,
            **demand_values(demand),
        }
        with self._database.write() as connection:
            known = connection.execute(
                "SELECT 1 FROM evaluations WHERE run_id = ? AND number = ?", (run_id, number)
            )
            if known.fetchone() is None:
                _insert(connection, "evaluations", values)
                key = JobKey(run_id, number)
                text = f"{state}: {split} with checkpoint {checkpoint}"
                _event(connection, key, "state", text, now)

    def add_result(
        self,
        run_id: str,
        number: int,
        metrics: Mapping[str, float],
        checkpoint_step: int | None,
    ) -> None:
        """Record what an evaluation found. Its state is its supervisor's to tell."""
        found = {"metrics": json.dumps(dict(metrics)), "checkpoint_step": checkpoint_step}
        with self._database.write() as connection:
            _update(connection, JobKey(run_id, number), found)

    def finish_evaluation(
        self,
        run_id: str,
        number: int,
        metrics: Mapping[str, float],
        checkpoint_step: int | None,
        *,
        ended_at: float | None = None,
    ) -> None:
        """Record the result of an evaluation without a supervisor; it is completed with that."""
        key = JobKey(run_id, number)
        now = time.time() if ended_at is None else ended_at
        ended = {"state": RunState.COMPLETED, "reason": "", "ended_at": now, **_NO_SUPERVISOR}
        with self._database.write() as connection:
            self.add_result(run_id, number, metrics, checkpoint_step)
            _update(connection, key, ended)
            _event(connection, key, "state", RunState.COMPLETED, now)

    def add_event(
        self, run_id: str, kind: str, text: str, *, evaluation: int | None = None
    ) -> None:
        """Record a sentence about a run."""
        with self._database.write() as connection:
            _event(connection, JobKey(run_id, evaluation), kind, text)


def _held(name: str, holder: str) -> ConflictError:
    return ConflictError(
        f"the name {name!r} is held by run {holder}: "
        f"choose another --name, or `orchestra rm {holder}`"
    )


def _put_config(
    connection: sqlite3.Connection, run_id: str, sha256: str, document: str | None
) -> None:
    if document is not None:
        values = {"run_id": run_id, "sha256": sha256, "document": document}
        _insert(connection, "configs", values, replace=True)


def _put_attempt(connection: sqlite3.Connection, key: JobKey, attempt: Attempt) -> None:
    values = {
        "run_id": key.run_id,
        "evaluation": key.evaluation or 0,
        "number": attempt.number,
        "document": json.dumps(attempt.to_json()),
    }
    _insert(connection, "attempts", values, replace=True)


def _insert(
    connection: sqlite3.Connection, table: str, values: Mapping[str, Any], *, replace: bool = False
) -> None:
    verb = "INSERT OR REPLACE" if replace else "INSERT"
    places = ", ".join("?" * len(values))
    sql = f"{verb} INTO {table} ({', '.join(values)}) VALUES ({places})"
    try:
        connection.execute(sql, tuple(values.values()))
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            raise missing_run(values["run_id"]) from error
        raise


def _update(connection: sqlite3.Connection, key: JobKey, changes: Mapping[str, Any]) -> None:
    table, where, parameters = _target(key)
    assignments = ", ".join(f"{name} = ?" for name in changes)
    sql = f"UPDATE {table} SET {assignments} WHERE {where}"
    if connection.execute(sql, (*changes.values(), *parameters)).rowcount == 0:
        raise _missing(key)


def _first_start(connection: sqlite3.Connection, key: JobKey, now: float) -> None:
    table, where, parameters = _target(key)
    sql = f"UPDATE {table} SET started_at = ? WHERE started_at IS NULL AND {where}"
    connection.execute(sql, (now, *parameters))


def _state(connection: sqlite3.Connection, key: JobKey) -> RunState:
    table, where, parameters = _target(key)
    row = connection.execute(f"SELECT state FROM {table} WHERE {where}", parameters).fetchone()
    if row is None:
        raise _missing(key)
    return RunState(row[0])


def _target(key: JobKey) -> tuple[str, str, tuple[Any, ...]]:
    if key.evaluation is None:
        return "runs", "id = ?", (key.run_id,)
    return "evaluations", "run_id = ? AND number = ?", (key.run_id, key.evaluation)


def _missing(key: JobKey) -> NotFoundError:
    if key.evaluation is None:
        return missing_run(key.run_id)
    return NotFoundError(f"run {key.run_id} has no evaluation {key.evaluation}")


def _event(
    connection: sqlite3.Connection,
    key: JobKey,
    kind: str,
    text: str,
    time_s: float | None = None,
) -> None:
    values = {
        "run_id": key.run_id,
        "evaluation": key.evaluation,
        "time_s": time.time() if time_s is None else time_s,
        "kind": kind,
        "text": text,
    }
    _insert(connection, "events", values)
