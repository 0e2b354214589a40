"""What can be asked of the registry. Reads only; each method is one or two indexed queries."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from orchestra.registry.naming import RUN, Naming, missing_run
from orchestra.registry.rows import (
    EVALUATION_COLUMNS,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    JobKey,
    NewestEvent,
    QueuedRow,
    RunRow,
    demand_row,
    evaluation_row,
    run_row,
)
from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from orchestra.wire.job import Attempt

_AT_ONCE = 500
_DEMAND = "priority, gpus, gpu_ids, after"


class Reads(Naming):
    """The reading half of the registry."""

    def config_values(self, key: str) -> list[Any]:
        """What the runs' configs have as `a.b`; runs without it are left out."""
        sql = "SELECT DISTINCT json_extract(document, ?) AS value FROM configs ORDER BY value"
        return [value for (value,) in self._database.read(sql, (f"$.{key}",)) if value is not None]

    def list_runs(
        self, *, states: Collection[RunState] | None = None, limit: int | None = None
    ) -> list[RunRow]:
        """Runs, newest first."""
        most = -1 if limit is None else limit
        if states is None:
            sql = f"SELECT {RUN} FROM runs ORDER BY sequence DESC LIMIT ?"
            return [run_row(row) for row in self._database.read(sql, (most,))]
        # One walk down the (state, sequence) index per state: never a sort of a whole state.
        one = (
            f"SELECT * FROM (SELECT {RUN}, sequence FROM runs WHERE state = ? "
            "ORDER BY sequence DESC LIMIT ?)"
        )
        sql = " UNION ALL ".join([one] * len(states)) + " ORDER BY sequence DESC LIMIT ?"
        wanted = [value for state in states for value in (state, most)]
        rows = self._database.read(sql, (*wanted, most)) if states else []
        return [run_row(row[:-1]) for row in rows]

    def select_runs(
        self,
        where: str,
        parameters: Sequence[Any] = (),
        *,
        order: str = "runs.sequence DESC",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[RunRow]:
        """Runs that meet a condition (of schedule.query_sql; values are `parameters`, those of
        `order` last).
        """
        sql = f"SELECT {RUN} FROM runs WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        most = -1 if limit is None else limit
        rows = self._database.read(sql, (*parameters, most, offset))
        return [run_row(row) for row in rows]

    def count_runs(self, where: str, parameters: Sequence[Any] = ()) -> int:
        """How many runs meet a condition."""
        rows = self._database.read(f"SELECT count(*) FROM runs WHERE {where}", parameters)
        return int(rows[0][0])

    def select_values(
        self, expressions: Sequence[str], parameters: Sequence[Any], run_ids: Sequence[str]
    ) -> dict[str, tuple[Any, ...]]:
        """What the expressions (of schedule.query_sql) give of these runs, by id."""
        found: dict[str, tuple[Any, ...]] = {}
        columns = ", ".join(("runs.id", *expressions))
        for start in range(0, len(run_ids), _AT_ONCE):
            some = run_ids[start : start + _AT_ONCE]
            sql = f"SELECT {columns} FROM runs WHERE runs.id IN ({', '.join('?' * len(some))})"
            for run_id, *values in self._database.read(sql, (*parameters, *some)):
                found[run_id] = tuple(values)
        return found

    def counts_by_state(self) -> dict[RunState, int]:
        """How many runs are in each state; those that none is in are left out."""
        rows = self._database.read("SELECT state, count(*) FROM runs GROUP BY state")
        return {RunState(state): count for state, count in rows}

    def define(self, name: str, function: Callable[..., Any]) -> None:
        """Let conditions call a function of ours; it must not raise."""
        self._database.define(name, function)

    def generation(self) -> tuple[int, int]:
        """Differs from the last one as soon as another process, or Registry, has changed the file.

        Next to free: who has read everything may wait for it to differ.
        """
        return self._database.generation()

    def get_run(self, run_id: str) -> RunRow:
        """One run by its exact id (NotFoundError)."""
        rows = self._database.read(f"SELECT {RUN} FROM runs WHERE id = ?", (run_id,))
        if not rows:
            raise missing_run(run_id)
        return run_row(rows[0])

    def knows(self, run_id: str) -> bool:
        """Whether there is a run with exactly this id."""
        return bool(self._database.read("SELECT 1 FROM runs WHERE id = ?", (run_id,)))

    def attempts(self, key: JobKey) -> list[Attempt]:
        """The launches of a run or an evaluation, oldest first."""
        from orchestra.wire.job import Attempt  # `orchestra ls` needs none

        sql = "SELECT document FROM attempts WHERE run_id = ? AND evaluation = ? ORDER BY number"
        rows = self._database.read(sql, (key.run_id, key.evaluation or 0))
        return [Attempt.from_json(json.loads(document)) for (document,) in rows]

    def attempts_since(self, time_s: float) -> list[tuple[JobKey, str, Attempt]]:
        """Launches of jobs that have not ended, or ended after that Unix time; with run names."""
        from orchestra.wire.job import Attempt  # `orchestra ls` needs none

        # CROSS JOIN: most runs have ended long ago, so that their attempts are not even looked for.
        sql = """
            SELECT runs.id, NULL, name, document FROM runs
            CROSS JOIN attempts ON run_id = runs.id AND evaluation = 0
            WHERE ended_at IS NULL OR ended_at >= ?1
            UNION ALL
            SELECT own.run_id, own.number, name, document FROM evaluations AS own
            JOIN runs ON runs.id = own.run_id
            CROSS JOIN attempts ON attempts.run_id = own.run_id AND evaluation = own.number
            WHERE own.ended_at IS NULL OR own.ended_at >= ?1"""
        return [
            (JobKey(run_id, number), name, Attempt.from_json(json.loads(document)))
            for run_id, number, name, document in self._database.read(sql, (time_s,))
        ]

    def checkpoints(self, run_id: str) -> list[CheckpointRow]:
        """The checkpoints that exist, by step."""
        sql = (
            "SELECT step, path, score, metric, created_at FROM checkpoints "
            "WHERE run_id = ? ORDER BY step"
        )
        return [CheckpointRow(*row) for row in self._database.read(sql, (run_id,))]

    def evaluations(self, run_id: str) -> list[EvaluationRow]:
        """The evaluations of a run, oldest first."""
        sql = (
            f"SELECT {', '.join(EVALUATION_COLUMNS)} FROM evaluations "
            "WHERE run_id = ? ORDER BY number"
        )
        return [evaluation_row(row) for row in self._database.read(sql, (run_id,))]

    def events(self, run_id: str) -> list[EventRow]:
        """What happened to a run, oldest first."""
        sql = "SELECT time_s, kind, text, evaluation FROM events WHERE run_id = ? ORDER BY id"
        return [EventRow(*row) for row in self._database.read(sql, (run_id,))]

    def newest_events(
        self, limit: int, *, after_id: int = 0, run_id: str | None = None
    ) -> list[NewestEvent]:
        """The newest events of all runs, or of one, behind that id; oldest first."""
        own = "" if run_id is None else "AND run_id = ?3"
        sql = f"""
            SELECT events.id, run_id, name, time_s, kind, text, evaluation
            FROM events JOIN runs ON runs.id = run_id
            WHERE events.id > ?1 {own} ORDER BY events.id DESC LIMIT ?2"""
        parameters = (after_id, limit) if run_id is None else (after_id, limit, run_id)
        rows = self._database.read(sql, parameters)
        return [
            NewestEvent(number, run, name, EventRow(*event))
            for number, run, name, *event in reversed(rows)
        ]

    def jobs_in(self, states: Collection[RunState]) -> list[JobKey]:
        """Runs and evaluations in these states, first queued first."""
        marks = ", ".join("?" * len(states))
        sql = f"""
            SELECT id, NULL, queued_at, sequence FROM runs WHERE state IN ({marks})
            UNION ALL
            SELECT run_id, number, queued_at, 0 FROM evaluations WHERE state IN ({marks})
            ORDER BY 3, 4, 2"""
        rows = self._database.read(sql, (*states, *states))
        return [JobKey(run_id, number) for run_id, number, _, _ in rows]

    def queued(self) -> list[QueuedRow]:
        """Jobs that wait, first queued first."""
        sql = f"""
            SELECT job.*, before.state, before.ended_at FROM (
                SELECT id, NULL AS number, name, queued_at, sequence, parent, {_DEMAND}
                FROM runs WHERE state = ?1
                UNION ALL
                SELECT run_id, number, name, own.queued_at, 0, '',
                    own.priority, own.gpus, own.gpu_ids, own.after
                FROM evaluations AS own JOIN runs ON id = run_id WHERE own.state = ?1
            ) AS job LEFT JOIN runs AS before ON before.id = job.after
            ORDER BY job.queued_at, job.sequence, job.number"""
        rows = self._database.read(sql, (RunState.QUEUED,))
        return [
            QueuedRow(
                JobKey(run_id, number),
                name,
                demand_row(*demand),
                queued_at,
                None if before is None else RunState(before),
                ended_at,
                parent,
            )
            for run_id, number, name, queued_at, _, parent, *demand, before, ended_at in rows
        ]
