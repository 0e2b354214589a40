"""Evaluations that are recorded: the test splits after the last step, and `orchestra eval`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from orchestra.data.feature_store import FeatureStore
from orchestra.train import checkpoint
from orchestra.train.evaluation import Evaluator, Split, load_split
from orchestra.train.features import open_features
from orchestra.train.learnt import recall
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.rendezvous import Exchange
from orchestra.train.saving import best_first
from orchestra.train.session import Session
from orchestra.train.silence import tell_silence
from orchestra.train.weights import read_trained
from orchestra.wire import checkpoints, weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import NotFoundError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.files import read_json, write_json
from orchestra.wire.folders import EvaluationFolder
from orchestra.wire.heartbeat import Phase
from orchestra.wire.job import EvaluationSpec, Result, config_sha256

VERSION = 1


class RefusedCheckpointError(BadCheckpointError):
    """What was asked for is bad; another attempt would find the same."""

    exit_code = ExitCode.BAD_DATA


@dataclass(frozen=True)
class Subject:
    """The checkpoint, or the export folder, under evaluation."""

    step: int
    folder: Path
    sha256: str
    """Of its manifest."""
    source: str = ""
    """What the user named, if it is not one of the run's own."""


def evaluate_tests(
    session: Session,
    model: SpeechModel,
    features: FeatureStore | None,
    splits: Sequence[Split],
    step: int,
) -> bool:
    """Evaluate the test splits with the best checkpoint; False if a stop came in between.

    Splits that an earlier attempt finished with the same checkpoint are not evaluated again.
    """
    session.pulse.beat(step, Phase.INIT)
    subject = _subject(session, _best_good(session, step), step)
    model.load_saved_state(read_trained(subject.folder, model))
    for split in splits:
        own = _own_number(session, split.name, subject) if session.ranks.is_first else 0
        number = session.ranks.from_first(own)
        if number < 0:
            continue
        target = session.job.run.evaluation(number)
        if not _evaluate(session, model, features, subject, split, target, step):
            return False
    return True


def evaluate_job(session: Session) -> None:
    """The evaluation that this job folder asks for; rank 0 commits the result.

    Raises:
        NotFoundError: there is no such checkpoint or split.
        OrchestraError: the checkpoint is bad or of another model.
    """
    target = EvaluationFolder(session.job.folder)
    spec = EvaluationSpec.read(target)
    session.pulse.beat(0, Phase.INIT)
    recall(session.task, session.job.run)
    model = build_model(session.config, session.task).to(session.ranks.device)
    subject = replace(_subject(session, spec.checkpoint, 0), source=spec.source)
    _require_same(spec, subject)
    model.load_saved_state(read_trained(subject.folder, model))
    session.pulse.beat(0, Phase.INIT)
    split = load_split(session.task, spec.split, session.config)
    features = open_features(session, model, lambda: subject.step)
    done = _evaluate(session, model, features, subject, split, target, subject.step)
    if features is not None:
        features.close()
    session.recorder.close()
    if session.ranks.is_first:
        Result("completed" if done else "stopped", subject.step).write(session.attempt)
    session.pulse.beat(subject.step, Phase.DONE)


def _evaluate(
    session: Session,
    model: SpeechModel,
    features: FeatureStore | None,
    subject: Subject,
    split: Split,
    target: EvaluationFolder,
    step: int,
) -> bool:
    """Evaluate, commit metrics.json, record; False if a stop came in between."""
    evaluator = Evaluator(
        session.config,
        session.task,
        model,
        session.ranks,
        beat=partial(session.pulse.beat, step),
        stop=session.stop_requested,
        features=features,
    )
    scratch = session.scratch(f"evaluation-{target.number}")
    evaluated = evaluator.evaluate(split, Exchange(scratch))
    if evaluated is None:
        return False
    if not session.ranks.is_first:
        session.pulse.beat(step, Phase.INIT)  # for the next one it waits for rank 0
        return True
    (scratch / "predictions.jsonl").rename(target.predictions)
    run = session.job.run.path
    inside = subject.folder.is_relative_to(run)
    path = str(subject.folder.relative_to(run) if inside else subject.folder)
    write_json(
        target.metrics,
        {
            "version": VERSION,
            "split": split.name,
            "checkpoint": {
                "step": subject.step,
                "path": path,
                "sha256": subject.sha256,
                "source": subject.source or None,
            },
            "config_sha256": config_sha256(session.job),
            "data": {"split": split.name, "manifest_sha256": split.manifest_sha256},
            "upstream": model.upstream.identity(),
            "metrics": evaluated.metrics,
            "declared": list(session.task.metrics),
            "directions": dict(session.task.metrics),
            "utterances": len(split.utterances),
            "audio_s": split.audio_s,
            "elapsed_s": evaluated.elapsed_s,
            **evaluated.speed,
            "world_size": session.ranks.world_size,
        },
    )
    if not evaluated.metrics:
        text = f"split {split.name!r} has no labels: its predictions are written, without metrics"
        session.recorder.notice(step, text)
    tell_silence(session.recorder, step, f"split {split.name!r}", evaluated.silent)
    values = {"number": target.number, "split": split.name, "metrics": evaluated.metrics}
    values |= {"checkpoint": path, "checkpoint_step": subject.step, **evaluated.speed}
    session.recorder.write("evaluation", step, values)
    return True


def _subject(session: Session, reference: str, step: int) -> Subject:
    """The checkpoint meant by "best", "last", a step or a path, verified by rank 0.

    Moves nothing and takes no other one for a bad one: the run may be at work. The heart beats at
    `step` meanwhile.

    Raises:
        NotFoundError: there is none such.
        RefusedCheckpointError: it fails verification.
    """
    root = session.job.run.checkpoints
    if reference in ("best", "last"):
        found = 0  # never saved
        if session.ranks.is_first:
            ranked = best_first(root) if reference == "best" else checkpoints.committed(root)
            found = checkpoints.step_of(ranked[0]) if ranked else 0
        folder = checkpoints.step_folder(root, session.ranks.from_first(found))
    elif reference.isdigit():
        folder = checkpoints.step_folder(root, int(reference))
    else:
        folder = session.job.run.path / reference  # an absolute path replaces all before it
    if not folder.is_dir():
        there = ", ".join(path.name for path in checkpoints.committed(root)) or "none"
        raise NotFoundError(f"no checkpoint {reference!r} in {root}; there are: {there}")
    # Rank 0 reads every byte; the others need the identity alone.
    verify = partial(_verify, session, tick=_reading(session, step))
    read = verify if session.ranks.is_first else weights.read_manifest
    manifest = read(folder)
    session.pulse.beat(step, Phase.INIT)
    return Subject(manifest.step, folder, manifest.sha256)


def _require_same(spec: EvaluationSpec, subject: Subject) -> None:
    if spec.sha256 and spec.sha256 != subject.sha256:
        raise RefusedCheckpointError(
            f"{subject.folder} changed since its evaluation was asked for; ask again"
        )


def _reading(session: Session, step: int) -> Callable[[], None]:
    """What lets the heart of a rank beat that verifies a checkpoint while others wait for it."""
    return partial(session.pulse.beat, step, Phase.CHECKPOINT)


def _verify(session: Session, folder: Path, *, tick: Callable[[], None]) -> checkpoints.Manifest:
    try:
        try:
            return weights.verify(folder, tick)
        except BadCheckpointError:  # or the run at work has just replaced it by its scored version
            return weights.verify(folder, tick)
    except BadCheckpointError as error:
        raise RefusedCheckpointError(
            f"choose another checkpoint, `orchestra checkpoints {session.job.run.id} --verify` "
            f"lists the good ones: {error}"
        ) from error


def _best_good(session: Session, step: int) -> str:
    """The best good checkpoint, as `_subject` takes it; rank 0 puts bad ones away."""
    root, found = session.job.run.checkpoints, None
    if session.ranks.is_first:
        said = partial(session.recorder.notice, 0)
        found = checkpoint.first_good(best_first(root), said, _reading(session, step))
    best = session.ranks.from_first(checkpoints.step_of(found) if found else 0)
    return str(best) if best else "best"


def _own_number(session: Session, split: str, subject: Subject) -> int:
    """Rank 0: the evaluation folder to fill for `split`; -1 if it is already filled."""
    run = session.job.run
    for folder in run.all_evaluations():
        if not folder.spec.exists():
            continue
        spec = EvaluationSpec.read(folder)
        if spec.origin != "run" or spec.split != split:
            continue
        if not folder.metrics.exists():
            return folder.number
        if read_json(folder.metrics)["checkpoint"]["sha256"] == subject.sha256:
            return -1
    number = max((folder.number for folder in run.all_evaluations()), default=0) + 1
    while True:
        folder = run.evaluation(number)
        try:
            folder.path.mkdir(parents=True)
        except FileExistsError:
            number += 1  # an `orchestra eval` took it in this very moment
            continue
        EvaluationSpec(split, "best", time.time(), origin="run").write(folder)
        return number
