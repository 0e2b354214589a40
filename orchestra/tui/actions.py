"""What the monitor does to runs. Each action calls the function of the command line's verb.

No widget is known here. All but `command_of` is for the background thread: files, SQLite, git.
"""

from __future__ import annotations

import os
import shlex
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.begin import begin
from orchestra.schedule.reap import Findings
from orchestra.schedule.reaping import reap_shown
from orchestra.schedule.seen import Seen, check_seen
from orchestra.schedule.stop import stop_run
from orchestra.schedule.submission import Submission
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.workspace import Workspace, find_workspace

_LOGGED = 200
_EACH = "\0"  # stands for the run's id


@dataclass(frozen=True)
class Stop:
    """`orchestra stop`."""

    runs: tuple[Seen, ...]
    now: bool = False


@dataclass(frozen=True)
class Resume:
    """`orchestra resume`, with changed values or without."""

    runs: tuple[Seen, ...]
    start_from: str | None = None
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluate:
    """`orchestra eval`."""

    runs: tuple[Seen, ...]
    split: str
    checkpoint: str | None = None


@dataclass(frozen=True)
class Relabel:
    """`orchestra label`. None and empty: as it is."""

    runs: tuple[Seen, ...]
    name: str | None = None
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    remark: str | None = None


@dataclass(frozen=True)
class Clone:
    """`orchestra clone`."""

    run: Seen
    name: str | None = None
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remove:
    """`orchestra rm`."""

    runs: tuple[Seen, ...]


@dataclass(frozen=True)
class Reap:
    """`orchestra reap`."""

    findings: Findings


@dataclass(frozen=True)
class Start:
    """`orchestra run`; the command line is the submission's `argv`."""

    submission: Submission


Action = Stop | Resume | Evaluate | Relabel | Clone | Remove | Reap | Start


@dataclass(frozen=True)
class Performed:
    """A line of the command log."""

    time_s: float
    command: str
    sentence: str
    """What came of it."""
    failed: bool


class Actions:
    """Performs actions in one workspace, or refuses all of them."""

    def __init__(
        self,
        workspace: Workspace,
        *,
        readonly: bool,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """`tell` takes what is said while a model is fetched, in the thread of `perform`."""
        self._tell = tell
        self.workspace = workspace
        self.readonly = readonly
        self.program = ("orchestra", *_where(workspace))
        self.log: deque[Performed] = deque(maxlen=_LOGGED)

    def command_of(self, action: Action) -> str:
        """The same as a command line."""
        return command_of(action, self.program)

    def perform(self, action: Action) -> str:
        """Do it; what came of it, in a sentence.

        Raises:
            ConflictError: the monitor is read-only, or a run is not as it was shown (which a label
                does not ask).
            OrchestraError: as the verb; of several runs it names those that were done as well.
        """
        if self.readonly:
            raise ConflictError("this monitor is read-only: use the command line")
        match action:
            case Stop():
                self._check(action.runs)
                return _each(action.runs, lambda seen: self._stop(seen, action.now))
            case Resume():
                self._check(action.runs)
                return _each(action.runs, lambda seen: self._resume(seen, action))
            case Remove():
                self._check(action.runs)
                return _each(action.runs, self._remove)
            case Evaluate():
                self._check(action.runs)
                return _each(action.runs, lambda seen: self._evaluate(seen, action))
            case Clone():
                self._check((action.run,))
                return self._clone(action)
            case Relabel():  # a name or a tag is right whatever the run does meanwhile
                return _each(action.runs, lambda seen: self._relabel(seen, action))
            case Start():
                return self._start(action.submission)
            case Reap():
                return self._reap(action.findings)

    def record(self, action: Action, sentence: str, *, failed: bool) -> Performed:
        """Put what was done into the command log."""
        performed = Performed(time.time(), self.command_of(action), sentence, failed)
        self.log.append(performed)
        return performed

    def _check(self, runs: tuple[Seen, ...]) -> None:
        """Of several, none is touched if one is not as it was shown (ConflictError)."""
        with open_registry(self.workspace.runs) as registry:
            for seen in runs:
                check_seen(self.workspace, registry, seen)

    def _stop(self, seen: Seen, now: bool) -> str:
        keys = stop_run(self.workspace, seen.run_id, now=now, seen=seen)
        names = ", ".join(map(str, keys))
        return f"{names}: to be killed now" if now else f"{names}: asked to save and end"

    def _resume(self, seen: Seen, action: Resume) -> str:
        from orchestra.schedule.resume import resume  # loads pydantic

        cpu = ("resume", seen.run_id, "--set", "launch.device=cpu")
        resumed = resume(
            self.workspace,
            seen.run_id,
            start_from=action.start_from,
            sets=action.sets,
            cpu_command=shlex.join([*self.program, *cpu]),
            seen=seen,
            tell=self._tell,
        )
        return self._begin(resumed.key, "resumed", resumed.notes)

    def _evaluate(self, seen: Seen, action: Evaluate) -> str:
        from orchestra.schedule.evaluate import submit_evaluation

        cpu = ("eval", seen.run_id, "--split", action.split, "--cpu")
        key = submit_evaluation(
            self.workspace,
            seen.run_id,
            split=action.split,
            checkpoint=action.checkpoint,
            cpu_command=shlex.join([*self.program, *cpu]),
            tell=self._tell,
        )
        return self._begin(key, f"on {action.split}")

    def _relabel(self, seen: Seen, action: Relabel) -> str:
        from orchestra.schedule.labels import relabel

        labelled = relabel(
            self.workspace,
            seen.run_id,
            name=action.name,
            add=action.add,
            drop=action.drop,
            remark=action.remark,
        )
        return f"{seen.run_id}: {'; '.join(labelled.changes) or 'it was labelled so already'}"

    def _remove(self, seen: Seen) -> str:
        from orchestra.schedule.remove import remove_run

        remove_run(self.workspace, seen.run_id, seen)
        return f"{seen.run_id}: deleted"

    def _clone(self, action: Clone) -> str:
        from orchestra.schedule.clone import clone_submission  # loads pydantic

        run_id = action.run.run_id
        argv = (*self.program, *_words(action, run_id))
        return self._start(
            clone_submission(self.workspace, run_id, name=action.name, sets=action.sets, argv=argv)
        )

    def _start(self, submission: Submission) -> str:
        from orchestra.schedule.submit import staged
        from orchestra.schedule.submit_parent import submit_members

        with staged(self.workspace, submission, self._tell) as stage:
            if not stage.plan.members:
                submitted = stage.commit()
                return self._begin(submitted.key, submitted.name, submitted.notes)
            parent = submit_members(self.workspace, submission, stage.plan, self._tell)
        begun = [self._begin(each.key, each.name, each.notes) for each in parent.members]
        return "\n".join([f"parent run {parent.id} ({parent.name}) of {len(begun)}", *begun])

    def _begin(self, key: JobKey, what: str, notes: tuple[str, ...] = ()) -> str:
        place = begin(self.workspace, key)
        return "; ".join([f"{key}: {what}", *notes, "started" if place is None else str(place)])

    def _reap(self, findings: Findings) -> str:
        reaped = reap_shown(findings)
        sentence = f"killed {reaped.killed}"
        if reaped.leftovers:
            raise OrchestraError(f"{sentence}; could not kill {', '.join(reaped.leftovers)}")
        return sentence


def _each(runs: tuple[Seen, ...], act: Callable[[Seen], str]) -> str:
    """One after the other; one that fails stops none (OrchestraError in the end)."""
    done, failed = [], []
    for seen in runs:
        try:
            done.append(act(seen))
        except OrchestraError as error:
            failed.append(str(error))
    if failed:
        raise OrchestraError("\n".join([*failed, *done]))
    return "\n".join(done)


def command_of(action: Action, program: tuple[str, ...] = ("orchestra",)) -> str:
    """The command line that does the same; of several runs a loop of the shell."""
    match action:
        case Start():
            return shlex.join(action.submission.argv)
        case Reap():
            return shlex.join([*program, "reap", "--yes"])
        case Clone():
            return shlex.join([*program, *_words(action, action.run.run_id)])
    ids = [seen.run_id for seen in action.runs]
    if len(ids) == 1:
        return shlex.join([*program, *_words(action, ids[0])])
    words = [*program, *_words(action, _EACH)]
    one = " ".join('"$run"' if word == _EACH else shlex.quote(word) for word in words)
    return f"for run in {shlex.join(ids)}; do {one}; done"


def _words(action: Stop | Resume | Evaluate | Relabel | Remove | Clone, run: str) -> list[str]:
    """The verb with its argument and options."""
    match action:
        case Stop():
            return ["stop", run, *(["--now"] if action.now else [])]
        case Resume():
            start = _option("--from", action.start_from)
            return ["resume", run, *start, *_options("--set", action.sets), "--detach"]
        case Evaluate():
            checkpoint = _option("--checkpoint", action.checkpoint)
            return ["eval", run, "--split", action.split, *checkpoint, "--detach"]
        case Remove():
            return ["rm", run, "--yes"]
        case Clone():
            name = _option("--name", action.name)
            return ["clone", run, *name, *_options("--set", action.sets), "--detach"]
        case Relabel():
            tags = _options("--tag", action.add) + _options("--untag", action.drop)
            remark = _option("--note", action.remark)
            return ["label", run, *_option("--name", action.name), *tags, *remark]


def _option(flag: str, value: str | None) -> list[str]:
    return [] if value is None else [flag, value]


def _options(flag: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (flag, value)]


def _where(workspace: Workspace) -> tuple[str, ...]:
    """The options by which a command line typed in the current folder finds this workspace."""
    try:
        if find_workspace() == workspace:
            return ()
    except OrchestraError:
        pass
    words: tuple[str, ...] = ("--workspace", os.fspath(workspace.root))
    if workspace.runs.path != workspace.root / "runs":
        words += ("--runs-dir", os.fspath(workspace.runs.path))
    return words
