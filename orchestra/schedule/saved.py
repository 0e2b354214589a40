"""What a run has saved, as one JSON document: `orchestra checkpoints --json`.

Reads manifests, and every byte where verification is asked for; moves and deletes nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.config.schema import CheckpointConfig
from orchestra.wire.checkpoints import (
    MANIFEST,
    QUARANTINE,
    REASON,
    SUPERSEDED,
    BadCheckpointError,
    Manifest,
    best_first,
    committed,
    read_manifest,
    step_of,
    verify,
)
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunFolder


@dataclass(frozen=True)
class _Found:
    """A committed checkpoint and what is known of it."""

    folder: Path
    manifest: Manifest | None
    state: str
    reason: str | None = None


def saved(run: RunFolder, *, check: bool) -> dict[str, Any]:
    """The checkpoints that exist, newest first; those set aside; with `check` all are verified.

    `state` is "good" (verified now), "unverified", or "bad", with the reason.

    Raises:
        OrchestraError: the run's config can't be read.
    """
    policy = _policy(run)
    found = [one for folder in committed(run.checkpoints) if (one := _look(folder, check=check))]
    why = _why_kept(found, policy)
    return {
        "id": run.id,
        "every": policy.every,
        "checkpoints": [_document(one, why.get(step_of(one.folder), [])) for one in found],
        "quarantined": [
            {"path": str(path), "reason": _reason(path)}
            for path in _folders(run.checkpoints / QUARANTINE)
        ],
        "superseded": [
            {"step": step_of(path), "path": str(path)}
            for aside in _folders(run.checkpoints / SUPERSEDED)
            for path in reversed(committed(aside))
        ],
    }


def _look(folder: Path, *, check: bool) -> _Found | None:
    """None: retention of a run at work took it meanwhile."""
    manifest = None
    try:
        manifest = read_manifest(folder)
        if check:
            verify(folder)
    except BadCheckpointError as error:
        return _Found(folder, manifest, "bad", str(error)) if folder.exists() else None
    return _Found(folder, manifest, "good" if check else "unverified")


def _why_kept(found: Sequence[_Found], policy: CheckpointConfig) -> dict[int, list[str]]:
    """Reasons by step: what the ranks' retention keeps it for."""
    manifests = [one.manifest for one in found if one.manifest]
    why: dict[int, list[str]] = {manifest.step: [] for manifest in manifests}
    for manifest in manifests[: policy.keep_last]:
        why[manifest.step].append("last")
    for rank, best in enumerate(best_first(manifests)[: policy.keep_best], start=1):
        why[best.step].append("best" if rank == 1 else f"best {rank}")
    for step, reasons in why.items():
        if policy.keep_every and step % policy.keep_every == 0:
            reasons.append("every")
    return why


def _policy(run: RunFolder) -> CheckpointConfig:
    try:
        document = tomllib.loads(run.job.config.read_text(encoding="utf-8"))
        return CheckpointConfig.model_validate(document["checkpoint"])
    except (OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())
        raise OrchestraError(f"cannot read [checkpoint] in {run.job.config}: {text}") from error


def _document(one: _Found, why: list[str]) -> dict[str, Any]:
    manifest = one.manifest
    return {
        "step": step_of(one.folder),
        "path": str(one.folder),
        "score": manifest.score if manifest else None,
        "metric": manifest.metric if manifest else None,
        "size_bytes": manifest.size if manifest else None,
        "saved_at": _saved_at(one.folder),
        "kept_as": why,
        "sha256": manifest.sha256 if manifest else None,
        "state": one.state,
        "reason": one.reason,
    }


def _saved_at(folder: Path) -> float | None:
    """Unix time."""
    try:
        return (folder / MANIFEST).stat().st_mtime
    except OSError:
        return None


def _reason(quarantined: Path) -> str | None:
    try:
        return (quarantined / REASON).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
