"""Which run a word means: an id, a name, a beginning of one, a parent run. Reads only."""

from __future__ import annotations

from orchestra.registry.database import Database
from orchestra.registry.rows import RUN_COLUMNS, RunRow, run_row
from orchestra.wire.errors import NotFoundError

LAST = "@last"
RUN = ", ".join(f"runs.{name}" for name in RUN_COLUMNS)
"""A row's columns in SQL."""

_CANDIDATES = 8


class Naming:
    """The part of the registry's reading half that knows names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_held(self, name: str) -> bool:
        """Whether a run has this name, or this as its id."""
        return bool(self._database.read("SELECT 1 FROM runs WHERE name = ?1 OR id = ?1", (name,)))

    def run_named(self, name: str) -> RunRow | None:
        """The run with exactly this name."""
        rows = self._database.read(f"SELECT {RUN} FROM runs WHERE name = ?", (name,))
        return run_row(rows[0]) if rows else None

    def members(self, parent: str) -> list[RunRow]:
        """The members of a parent run, in the order in which they were submitted."""
        sql = f"SELECT {RUN} FROM runs WHERE parent = ? AND parent != '' ORDER BY sequence"
        return [run_row(row) for row in self._database.read(sql, (parent,))]

    def parents_like(self, reference: str) -> list[str]:
        """The parent runs whose id, or whose members' common name, is or begins with this."""
        end = reference + chr(0x10FFFF)
        # A member's name is its parent's, a dot and a number.
        sql = """
            SELECT DISTINCT parent FROM runs
            WHERE parent != '' AND ((parent >= ?1 AND parent < ?2) OR (name >= ?1 AND name < ?2))"""
        return [str(row[0]) for row in self._database.read(sql, (reference, end))]

    def latest_run_id(self) -> str:
        """The newest run (NotFoundError if there is none)."""
        rows = self._database.read("SELECT id FROM runs ORDER BY sequence DESC LIMIT 1")
        if not rows:
            raise NotFoundError("there are no runs yet: start one with `orchestra run TASK`")
        return str(rows[0][0])

    def resolve(self, reference: str) -> str:
        """The id of the run meant by an exact id, an exact name, a unique prefix, or @last.

        Raises:
            NotFoundError: no run or several; the message names candidates.
        """
        if reference == LAST:
            return self.latest_run_id()
        exact = self._database.read(
            "SELECT id FROM runs WHERE id = ?1 OR name = ?1 ORDER BY id != ?1", (reference,)
        )
        if exact:
            return str(exact[0][0])
        found = self._starting_with(reference) if reference else []
        if len(found) == 1:
            return found[0][0]
        if members := self._members_of(reference):
            names = ", ".join(members[:_CANDIDATES])
            raise NotFoundError(f"{reference} is a parent run: name one of its members ({names})")
        if found:
            some = ", ".join(f"{run_id} ({name})" for run_id, name in found[:_CANDIDATES])
            more = ", ..." if len(found) > _CANDIDATES else ""
            raise NotFoundError(f"{reference!r} means several runs: {some}{more}")
        raise self._nothing_like(reference)

    def _starting_with(self, prefix: str) -> list[tuple[str, str]]:
        # Ranges, not LIKE: they use the indexes and know no wildcards.
        end = prefix + chr(0x10FFFF)
        sql = """
            SELECT id, name FROM runs WHERE id >= ?1 AND id < ?2
            UNION
            SELECT id, name FROM runs WHERE name >= ?1 AND name < ?2
            LIMIT ?3"""
        rows = self._database.read(sql, (prefix, end, _CANDIDATES + 1))
        return [(str(run_id), str(name)) for run_id, name in rows]

    def _members_of(self, reference: str) -> list[str]:
        """Names of the members of the parent run with this id or name."""
        parents = self.parents_like(reference) if reference else []
        rows = [row for parent in parents for row in self.members(parent)]
        own = f"{reference}."
        return [row.name for row in rows if row.parent == reference or row.name.startswith(own)]

    def _nothing_like(self, reference: str) -> NotFoundError:
        sql = "SELECT id, name FROM runs ORDER BY sequence DESC LIMIT ?"
        newest = self._database.read(sql, (_CANDIDATES,))
        if not newest:
            return missing_run(reference)
        some = ", ".join(f"{run_id} ({name})" for run_id, name in newest)
        return NotFoundError(f"no run {reference!r}: the newest are {some}")


def missing_run(run_id: str) -> NotFoundError:
    """The error for an id that is not in the registry."""
    return NotFoundError(f"no run {run_id!r} in the registry: `orchestra ls` shows what there is")
