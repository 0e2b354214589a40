"""Weights that a run starts from, or that are evaluated, from a checkpoint or an export folder.

Weights alone: neither the optimizer nor the step. Everything must fit, or the user names the parts
to take; nothing is left out silently.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestra.config.schema import InitConfig
from orchestra.train import checkpoint, learnt
from orchestra.train import tensors as tied
from orchestra.train.fit import below, fitting_parts, lies_in, misfits, shortened
from orchestra.train.model import SpeechModel
from orchestra.train.session import Session
from orchestra.train.tensor_file import load
from orchestra.upstreams.base import Upstream
from orchestra.wire import weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import UsageError
from orchestra.wire.files import read_json
from orchestra.wire.heartbeat import Phase

log = logging.getLogger("orchestra")

HEAD = "head.safetensors"
UPSTREAM = "upstream"
HEAD_PART = "head"
_HASH = "_sha256"
_UPSTREAM_MODEL = "upstream.model."
"""What the names in an exported upstream's files lack."""


def load_initial(session: Session, model: SpeechModel) -> None:
    """Put the weights of the config's `init` table, if there is one, into the model.

    Raises:
        BadCheckpointError: the run's copy of them is damaged.
        UsageError: they don't fit the model; what differs and what fits is named.
    """
    init = session.config.init
    if init is None:
        return
    folder = session.job.run.init
    # Rank 0 reads every byte; the others need the identity alone.
    reading = partial(session.pulse.beat, 0, Phase.CHECKPOINT)
    verify = partial(weights.verify, tick=reading)
    read = verify if session.ranks.is_first else weights.read_manifest
    if read(folder).sha256 != init.sha256:
        raise BadCheckpointError(f"{folder} does not hold the weights that init.sha256 names")
    session.pulse.beat(0, Phase.INIT)
    require_same_learnt(init, learnt.of_weights(folder), learnt.read(session.job.run))
    put(init, read_weights_from(folder, model), model)


def require_same_learnt(
    init: InitConfig, theirs: Mapping[str, Any] | None, own: Mapping[str, Any]
) -> None:
    """Of one size, the heads of two tasks fit each other though their outputs mean other things.

    Raises:
        UsageError: the head is taken, and what the task learnt there differs.
    """
    if theirs is None or (
        init.parts and not any(lies_in(part, [HEAD_PART]) for part in init.parts)
    ):
        return
    differing = sorted(key for key in {*theirs, *own} if theirs.get(key) != own.get(key))
    if differing:
        raise UsageError(
            f"the head of {init.source} was trained for other {', '.join(differing)} than this "
            "run's training split has; take the rest with --set 'init.parts=[\"featurizer\"]', or "
            "train on the same classes"
        )


def put(init: InitConfig, given: dict[str, Tensor], model: SpeechModel) -> None:
    """Copy `given`, or the `init.parts` of them, into the model.

    Raises:
        UsageError: they don't fit.
    """
    own = model.saved_state()
    found = misfits(own, given)
    if init.parts:
        _require_parts(init, own, given)
        found = misfits(below(own, init.parts), below(given, init.parts))
    if found:
        log.error("the model differs from %s:\n%s", init.folder, "\n".join(found))
        # The remedy first: where a reason is shown in short, its end goes.
        raise UsageError(
            f"the weights of {init.source} don't fit this run's model; {_remedy(own, given)}; "
            f"{shortened(found)}"
        )
    model.load_saved_state({**own, **below(given, init.parts)} if init.parts else given)


def frozen_hashes(upstream: Upstream) -> dict[str, str]:
    """What tells the weights of a frozen upstream from others; a tuned one's are the run's own."""
    if upstream.trainable:
        return {}
    return {key: said for key, said in upstream.identity().items() if key.endswith(_HASH)}


def require_same_upstream(trained_with: Mapping[str, str], model: SpeechModel) -> None:
    """What a folder holds can change; what was trained on it must not go on with something else.

    Args:
        trained_with: `frozen_hashes` as a checkpoint has them, {} if it is of an older version.

    Raises:
        UsageError: the model's frozen upstream is another one.
    """
    own = frozen_hashes(model.upstream)
    for key, sha256 in trained_with.items():
        if own and own.get(key) != sha256:
            raise UsageError(
                f"{key.removesuffix(_HASH)} of the upstream, {model.upstream.identity()['source']},"
                f" is not what this run was trained with (sha256 {sha256}): put that back, or "
                "start a new run"
            )


def read_trained(folder: Path, model: SpeechModel) -> dict[str, Tensor]:
    """`read_weights_from` for the run that they are of.

    Raises:
        BadCheckpointError: a file can't be read.
        UsageError: the upstream is not the one that they were trained with.
    """
    require_same_upstream(_trained_with(folder), model)
    return read_weights_from(folder, model)


def read_weights_from(folder: Path, model: SpeechModel) -> dict[str, Tensor]:
    """All tensors that a checkpoint or an export folder has for `model`, named as it names them.

    Of a run that averaged its weights: the averages. Verify first.

    Raises:
        BadCheckpointError: a file can't be read.
    """
    if weights.is_export(folder):
        return _read_export(folder, model.saved_state().keys())
    return checkpoint.read_weights(folder)


def _trained_with(folder: Path) -> dict[str, str]:
    path = folder / (weights.EXPORT if weights.is_export(folder) else checkpoint.STATE)
    try:
        said = read_json(path).get(UPSTREAM, {})
    except OSError as error:
        raise BadCheckpointError(f"cannot read {path}: {error}") from error
    return {key: sha256 for key, sha256 in said.items() if key.endswith(_HASH)}


def _read_export(folder: Path, own: Collection[str]) -> dict[str, Tensor]:
    try:
        document = json.loads((folder / weights.EXPORT).read_bytes())
        aliases, untrained = document["aliases"], document["upstream"]["untrained"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCheckpointError(f"cannot read {folder / weights.EXPORT}: {error!r}") from error
    found = tied.with_aliases(load(folder / HEAD), aliases)
    # Other files there were not verified.
    for name in weights.read_manifest(folder).files:
        if name.startswith(f"{UPSTREAM}/") and name.endswith(".safetensors"):
            found |= {_UPSTREAM_MODEL + key: tensor for key, tensor in load(folder / name).items()}
    # Layers that the run had cut off were added to make a whole model: not every model has them.
    added = {_UPSTREAM_MODEL + name for name in untrained}
    return {name: tensor for name, tensor in found.items() if name in own or name not in added}


def _require_parts(init: InitConfig, own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    for part in init.parts:
        for tensors, whose in ((own, "this run's model has"), (given, f"{init.source} has")):
            if not any(lies_in(name, [part]) for name in tensors):
                there = ", ".join(sorted({name.split(".")[0] for name in tensors})) or "none"
                raise UsageError(
                    f"init.parts: {whose} no weights below {part!r}; its parts are {there}"
                    + (_FROZEN if part.split(".")[0] == UPSTREAM else "")
                )


def _remedy(own: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    fitting = fitting_parts(own, given)
    text = "no part of them fits"
    if fitting:
        text = f"take what fits with --set 'init.parts={json.dumps(fitting)}'"
    has = [any(lies_in(name, [UPSTREAM]) for name in tensors) for tensors in (own, given)]
    return text + (_FROZEN if has == [False, True] else "")


_FROZEN = (
    " (a frozen upstream keeps its own weights: for those of a run that tuned it, `orchestra "
    "export` it and give --upstream DIR/upstream, or set upstream.trainable=true)"
)
