"""Takes the step of a bug capsule again in one process: `python -m orchestra.train.replay`.

All ranks' micro-batches, in order, under anomaly mode; then the utterances of the first guilty one
alone. Prints one JSON document; exits with 0 if what the capsule recorded happened again, with 1
if not. Changes nothing in the run's folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from orchestra.config.frozen import read_frozen
from orchestra.config.schema import RunConfig
from orchestra.data.program import Outcome, run, say
from orchestra.tasks import Batch, Task
from orchestra.train.anomaly import Finding, examine
from orchestra.train.capsule import versions
from orchestra.train.capsule_files import Consumed, read_batches, read_weights
from orchestra.train.freezing import Freezing
from orchestra.train.learnt import recall
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.precision import set_determinism
from orchestra.train.seeds import with_parts
from orchestra.wire.capsules import MODEL, Capsule, capsules_in, read_document, what_happened
from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE, config_sha256


@dataclass(frozen=True)
class Recorded:
    """One rank's capsule, read."""

    capsule: Capsule
    document: dict[str, Any]
    consumed: Consumed


@dataclass(frozen=True)
class Taken:
    """One micro-batch, or a part of one, taken again."""

    rank: int
    number: int
    part: int
    batch: Batch
    finding: Finding | None


def main(argv: Sequence[str] | None = None) -> int:
    """Replay; returns the exit code."""
    return run(_parser(), _work, argv)


def _work(arguments: argparse.Namespace) -> Outcome:
    job = Job("train", arguments.job.absolute())
    chosen = [_find(job, folder) for folder in arguments.capsules]
    with contextlib.redirect_stdout(sys.stderr):  # a task may print
        document = replay(job, chosen, _device(arguments.device))
    return Outcome(document, ExitCode.OK if document["reproduced"] else ExitCode.FAILED)


def replay(job: Job, chosen: Sequence[Capsule], device: torch.device) -> dict[str, Any]:
    """Take the step again whose capsules (by rank) are given; the JSON document of the result.

    Raises:
        OrchestraError: a capsule is not whole, or the run's code or config does not fit it.
    """
    config, info = read_frozen(job.config, Path(os.environ.get(CODE, Path.cwd())))
    task = info.task_class()(config.task, config.data)
    recall(task, job.run)
    set_determinism(config.train)
    torch.set_num_threads(config.launch.threads)
    ranks = []
    for capsule in chosen:
        document = read_document(capsule)
        ranks.append(Recorded(capsule, document, read_batches(capsule, document, device)))
    number = chosen[0].step - 1  # as the step was seeded
    model = build_model(config, task).to(device)
    model.load_saved_state(_weights(ranks))
    Freezing(config.optim.freeze, model).apply(number)
    taken = [each for rank in ranks for each in _take(config, model, number, rank)]
    guilty = next((each for each in taken if each.finding), None)
    alone = _alone(config, task, model, number, guilty) if guilty else []
    return _report(job, ranks, taken, alone, device, cast(int, config.batch.micro_batches))


def _take(config: RunConfig, model: SpeechModel, number: int, rank: Recorded) -> list[Taken]:
    """A rank's micro-batches, gradients adding up until one is not finite."""
    model.zero_grad(set_to_none=True)
    taken = []
    pieces = with_parts(micro for micro, _ in rank.consumed)
    for (micro, part), (_, batch) in zip(pieces, rank.consumed, strict=True):
        say(f"rank {rank.capsule.rank}: micro-batch {micro}, {len(batch.ids)} utterances")
        finding = examine(config, model, number, micro, part, batch)
        taken.append(Taken(rank.capsule.rank, micro, part, batch, finding))
        if finding:
            model.zero_grad(set_to_none=True)
    return taken


def _alone(
    config: RunConfig, task: Task, model: SpeechModel, number: int, guilty: Taken
) -> list[str]:
    """Ids of the utterances that do the same without the others of their micro-batch."""
    assert guilty.finding
    found = []
    for row in range(len(guilty.batch.ids)):
        batch = _single(task, guilty.batch, row)
        model.zero_grad(set_to_none=True)
        finding = examine(config, model, number, guilty.number, guilty.part, batch)
        if finding and finding.like(guilty.finding):
            found += batch.ids
    return found


def _single(task: Task, batch: Batch, row: int) -> Batch:
    """One utterance of a batch, without the padding; its label is made anew by the task."""
    utterances = batch.utterances[row : row + 1]
    made = task.collate([task.target(utterance) for utterance in utterances])
    device, stored = batch.wavs.device, batch.stored
    if stored is not None:
        frames = int(stored.lengths[row])
        layers = stored.layers[:, row : row + 1, :frames]
        stored = replace(stored, layers=layers, lengths=stored.lengths[row : row + 1])
    return Batch(
        ids=[batch.ids[row]],
        wavs=batch.wavs[row : row + 1, : int(batch.lengths[row])],
        lengths=batch.lengths[row : row + 1],
        targets={name: tensor.to(device) for name, tensor in made.items()},
        seeds=[batch.seeds[row]],
        stored=stored,
        utterances=utterances,
    )


def _weights(ranks: Sequence[Recorded]) -> dict[str, torch.Tensor]:
    holder = next((r for r in ranks if (r.capsule.folder / MODEL).exists()), ranks[0])
    return read_weights(holder.capsule, holder.document)


def _report(
    job: Job,
    ranks: Sequence[Recorded],
    taken: Sequence[Taken],
    alone: Sequence[str],
    device: torch.device,
    micro_batches: int,
) -> dict[str, Any]:
    first = ranks[0].document
    return {
        "version": 1,
        "run": job.run.id,
        "capsules": [each.capsule.name for each in ranks],
        "step": ranks[0].capsule.step,
        "recorded": [{"rank": r.capsule.rank, "what": what_happened(r.document)} for r in ranks],
        "recorded_on": first["device"],
        "replayed_on": str(device),
        "checkpoint": first["checkpoint"],
        "reproduced": any(_is_the_same(each, ranks) for each in taken),
        "micro_batches": [
            {
                "rank": each.rank,
                "number": each.number,
                "ids": each.batch.ids,
                "finding": asdict(each.finding) if each.finding else None,
            }
            for each in taken
        ],
        "alone": list(alone),
        "differences": _differences(job, ranks, device) + _unread(ranks, micro_batches),
    }


def _is_the_same(taken: Taken, ranks: Sequence[Recorded]) -> bool:
    """Whether that is what a capsule recorded; of exceptions the type decides."""
    if taken.finding is None:
        return False
    recorded = next(r.document for r in ranks if r.capsule.rank == taken.rank)
    if taken.finding.what != recorded["reason"]:
        return False
    error = recorded["exception"]
    return error is None or taken.finding.error.startswith(f"{error['type']}:")


def _differences(job: Job, ranks: Sequence[Recorded], device: torch.device) -> list[str]:
    """What is not as it was in the step, a sentence each."""
    document = ranks[0].document
    found = []
    if not document["device"].startswith(device.type):
        other = "try --gpu ID" if device.type == "cpu" else "leave out --gpu"
        found.append(f"the step ran on {document['device']}, this replay on {device.type}: {other}")
    missing = document["world_size"] - len(ranks)
    if missing:
        found.append(
            f"{missing} of {document['world_size']} ranks have no capsule: nothing was wrong with "
            "their micro-batches, or they were ended before they could write it"
        )
    if config_sha256(job) != document["config_sha256"]:
        found.append("the run's config has changed since (`orchestra resume --set`)")
    found += [
        f"{name} is {now}, it was {document['versions'].get(name)}"
        for name, now in versions().items()
        if now != document["versions"].get(name)
    ]
    return found


def _unread(ranks: Sequence[Recorded], micro_batches: int) -> list[str]:
    """Ranks that may have failed while they read a batch."""
    share = micro_batches // ranks[0].document["world_size"]
    read = {rank.capsule.rank: len({number for number, _ in rank.consumed}) for rank in ranks}
    return [
        f"rank {rank} had {count} of its {share} micro-batches: if the next one could not be "
        "read, that is not replayed"
        for rank, count in read.items()
        if count < share
    ]


def _find(job: Job, folder: Path) -> Capsule:
    there = {capsule.folder: capsule for capsule in capsules_in(job.run.capsules)}
    try:
        return there[folder.absolute()]
    except KeyError:
        raise NotFoundError(f"{folder} is no capsule of run {job.run.id}") from None


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--gpu: torch finds no such GPU here; leave it out to replay on the CPU")
    return torch.device(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestra.train.replay", allow_abbrev=False)
    parser.add_argument("--job", type=Path, required=True, help="the run's folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "capsules", type=Path, nargs="+", help="capsule folders of one step and attempt"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
