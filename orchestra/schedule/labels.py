"""What a user calls a run: name, tags, note. For `orchestra label` and the monitor alike.

They change nothing in what a run does, so they may change at any time, while it is at work too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from orchestra.registry.store import open_registry
from orchestra.schedule.names import check_name
from orchestra.wire.errors import UsageError
from orchestra.wire.labels import Labels
from orchestra.workspace import Workspace

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,49}")
_LONGEST_NOTE = 2000


@dataclass(frozen=True)
class Labelled:
    """The labels of a run, and what of them was changed: sentences, also recorded as events."""

    run_id: str
    name: str
    tags: tuple[str, ...]
    remark: str
    changes: tuple[str, ...]


def relabel(
    workspace: Workspace,
    run_id: str,
    *,
    name: str | None = None,
    add: Iterable[str] = (),
    drop: Collection[str] = (),
    remark: str | None = None,
) -> Labelled:
    """Give a run another name, more or fewer tags, another note (None: the one it has).

    A tag that it has already, or has not, is no error. Two commands at once lose neither's tags.

    Raises:
        NotFoundError: no such run.
        ConflictError: another run holds the name.
        UsageError: it is no name, a tag is none, or the note is too long.
        OrchestraError: its folder can't be written.
    """
    added = check_tags(add)
    if name is not None:
        check_name(name)
    if remark is not None:
        remark = check_remark(remark)
    with open_registry(workspace.runs) as registry, registry.bulk():
        row = registry.get_run(run_id)
        before = Labels(row.name, row.tags, row.remark)
        after = Labels(
            row.name if name is None else name,
            tuple(sorted((set(row.tags) | set(added)) - set(drop))),
            row.remark if remark is None else remark,
        )
        changes = _changes(before, after)
        if changes:
            registry.relabel(run_id, name=after.name, tags=after.tags, remark=after.remark)
            for text in changes:
                registry.add_event(run_id, "label", text)
            after.write(workspace.runs.run(run_id))  # last: if it fails, nothing has changed
    return Labelled(run_id, after.name, after.tags, after.remark, changes)


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags, sorted, if a run may have them (UsageError)."""
    unique = sorted(set(tags))
    for tag in unique:
        if not _TAG.fullmatch(tag):
            raise UsageError(
                f"--tag {tag!r}: a tag has 1 to 50 letters, digits or . _ : / + - and starts with "
                "a letter or a digit"
            )
    return tuple(unique)


def check_remark(remark: str) -> str:
    """The note without space around it, if it is short enough (UsageError)."""
    remark = remark.strip()
    if len(remark) > _LONGEST_NOTE:
        raise UsageError(f"--note has {len(remark)} characters: at most {_LONGEST_NOTE}")
    if not remark.isascii() and any("\ud800" <= character <= "\udfff" for character in remark):
        raise UsageError("--note is not text in UTF-8")
    return remark


def _changes(before: Labels, after: Labels) -> tuple[str, ...]:
    """What was changed, in sentences."""
    changes = []
    if after.name != before.name:
        changes.append(f"renamed from {before.name} to {after.name}")
    if added := [tag for tag in after.tags if tag not in before.tags]:
        changes.append(f"tagged {', '.join(added)}")
    if dropped := [tag for tag in before.tags if tag not in after.tags]:
        changes.append(f"untagged {', '.join(dropped)}")
    if after.remark != before.remark:
        changes.append(f"note: {after.remark}" if after.remark else "note removed")
    return tuple(changes)
