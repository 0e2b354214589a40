"""Bug capsules: what a failing step had at hand, kept so that `orchestra replay` can take it again.

Does nothing while all is well. What can't be written costs the capsule, never the run, and hides
no exception.
"""

from __future__ import annotations

import logging
import platform
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import safetensors
import torch
import torch.distributed as dist

import orchestra
from orchestra.train import capsule_files
from orchestra.train.capsule_files import Consumed
from orchestra.train.model import SpeechModel
from orchestra.train.precision import autocast
from orchestra.train.session import Session
from orchestra.train.step import Stepper, Taken
from orchestra.wire import checkpoints
from orchestra.wire.capsules import VERSION, Capsule, Reason, capsule_of, capsules_in, read_document
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import read_json
from orchestra.wire.heartbeat import LONG_WRITE_S, Phase
from orchestra.wire.job import config_sha256

log = logging.getLogger("orchestra")

FEW = 5
"""Steps of a run that may leave a capsule, over all its attempts."""

_LOST = (
    OSError,  # a full disk, a folder that can't be written
    OrchestraError,  # a damaged run folder
    RuntimeError,  # a GPU that no longer answers
    MemoryError,
    TypeError,  # a manifest's field that is no JSON
    ValueError,
    AttributeError,  # a target that is no tensor
    safetensors.SafetensorError,
)
"""What writing a capsule may end with."""


@dataclass(frozen=True)
class _Event:
    step: int
    """As the log counts: the first is 1."""
    reason: Reason
    non_finite: tuple[str, ...] = ()
    error: Exception | None = None


class Capsules:
    """This rank's capsules. Steps are numbered as in `Stepper.take`: the first is 0."""

    def __init__(self, session: Session, model: SpeechModel) -> None:
        self._session = session
        self._model = model
        self._last_bad: int | None = None
        self.culprit = ""
        """The utterance whose features were not finite where the last streak began, if one was."""
        if session.ranks.is_first:
            capsule_files.sweep(session.job.run.capsules)

    @contextmanager
    def on_error(self, number: int, stepper: Stepper) -> Iterator[None]:
        """An exception inside leaves a capsule and goes on; an OrchestraError explains itself."""
        try:
            yield
        except OrchestraError:
            raise
        except Exception as error:
            if not _is_another_ranks(error):
                event = _Event(number + 1, "exception", error=error)
                self._keep(event, stepper.consumed, with_weights=True)
            raise

    def not_finite(self, number: int, taken: Taken, consumed: Consumed) -> None:
        """Step `number` was skipped: the first of a streak leaves a capsule in the ranks concerned.

        Where a rank's own loss is not finite, that is the rank; a gradient is everybody's, since
        it was summed before anybody could look.
        """
        if taken.overflow:
            return
        follows, self._last_bad = self._last_bad == number - 1, number
        if follows:
            return
        if not (taken.totals.finite or {"loss", "weight"} & {*taken.non_finite}):
            if self._session.ranks.is_first:
                replay = f"`orchestra replay {self._session.job.run.id}`"
                self._say(number + 1, f"the loss of another rank; {replay} takes its capsule again")
            return
        self.culprit = self._bad_features(consumed) if "loss" in taken.non_finite else ""
        found = (self.culprit,) if self.culprit else ()
        event = _Event(number + 1, "not finite", (*found, *taken.non_finite))
        # All ranks have the same weights: where all have a capsule, one of them is enough.
        weights = self._session.ranks.is_first or "loss" in taken.non_finite
        self._keep(event, consumed, with_weights=weights)

    def _bad_features(self, consumed: Consumed) -> str:
        """Computed again: in training nobody waits to look at them."""
        device = self._session.ranks.device
        with autocast(self._session.config.train, device):
            for _, batch in consumed:
                for name in self._model.non_finite_features(batch):
                    return name
        return ""

    def _keep(self, event: _Event, consumed: Consumed, *, with_weights: bool) -> None:
        """Write the capsule, unless there is one already or there are enough of them."""
        session = self._session
        rank, attempt = session.ranks.rank, session.attempt.number
        place = capsule_of(session.job.run.capsules, event.step, attempt, rank)
        replay = f"`orchestra replay {session.job.run.id}`"
        try:
            there = capsules_in(session.job.run.capsules)
            if (earlier := _same(there, place, event.reason)) is not None:
                self._say(event.step, f"as in the capsule {earlier.name}; {replay} takes it again")
                return
            if len({each.step for each in there} - {event.step}) >= FEW:
                self._say(event.step, f"no capsule: there are {FEW} already")
                return
            model = self._model.saved_state() if with_weights else None
            document = _document(session, event, consumed)
            # As the step in which the others wait for this rank is called in their beats.
            session.pulse.beat(event.step - 1, Phase.CHECKPOINT, LONG_WRITE_S)
            size = capsule_files.write(place, document, consumed, model)
        except _LOST as error:
            self._say(event.step, f"no capsule, it can't be written: {error}")
            return
        text = f"capsule {place.name} ({size / 2**20:.1f} MiB); {replay} takes the step again"
        if event.non_finite[:1] == (self.culprit,):
            text = f"{self.culprit} is not finite; {text}"
        self._say(event.step, text)

    def _say(self, step: int, text: str) -> None:
        """In the run's record by rank 0; in their logs by the others."""
        if self._session.ranks.is_first:
            self._session.recorder.notice(step, f"step {step}: {text}")
        else:
            log.warning("step %d: %s", step, text)


def _is_another_ranks(error: Exception) -> bool:
    """Whether an exchange failed because a peer was gone: its own capsule tells why.

    NCCL's errors have a type of their own, gloo's are RuntimeErrors that name its source file.
    """
    return isinstance(error, dist.DistError) or "gloo/transport/" in str(error)


def _same(there: list[Capsule], place: Capsule, reason: Reason) -> Capsule | None:
    """A capsule of the same step, rank and reason, from an earlier attempt."""
    alike = (each for each in there if (each.step, each.rank) == (place.step, place.rank))
    return next((each for each in alike if read_document(each)["reason"] == reason), None)


def _bad_inputs(consumed: Consumed) -> list[str]:
    """Names of the batches' tensors that are not finite."""
    return [
        f"{name} of micro-batch {number}"
        for number, batch in consumed
        for name, tensor in {"wavs": batch.wavs, **batch.targets}.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]


def _document(session: Session, event: _Event, consumed: Consumed) -> dict[str, Any]:
    """capsule.json, but for what it says of the tensors."""
    return {
        "version": VERSION,
        "reason": event.reason,
        "exception": _exception(event.error),
        "non_finite": [*_bad_inputs(consumed), *event.non_finite],
        "created_at": time.time(),
        "step": event.step,
        "attempt": session.attempt.number,
        "rank": session.ranks.rank,
        "world_size": session.ranks.world_size,
        "seed": session.config.seed,
        "device": _device_name(session.ranks.device),
        "config_sha256": config_sha256(session.job),
        "code": _code(session),
        "checkpoint": _newest_checkpoint(session),
        "versions": versions(),
    }


def _exception(error: Exception | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _code(session: Session) -> dict[str, Any]:
    """Commit, tree and whether there were uncommitted changes; nulls without a record of them."""
    try:
        provenance = read_json(session.job.run.provenance)
    except FileNotFoundError:
        provenance = {}
    return {key: provenance.get(key) for key in ("commit", "tree", "dirty")}


def _newest_checkpoint(session: Session) -> dict[str, str] | None:
    """The newest one that has a manifest; None before the first."""
    run = session.job.run
    for folder in checkpoints.committed(run.checkpoints):
        try:
            sha256 = checkpoints.read_manifest(folder).sha256
        except BadCheckpointError:
            continue
        return {"path": str(folder.relative_to(run.path)), "sha256": sha256}
    return None


def _device_name(device: torch.device) -> str:
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return f"{device}{name}"


def versions() -> dict[str, str]:
    """Of what computes."""
    return {
        "python": platform.python_version(),
        "orchestra": orchestra.__version__,
        **{name: metadata.version(name) for name in ("torch", "numpy", "transformers")},
    }
