"""A workspace to look at: runs in every state, as if a lab had trained for a day. Trains nothing.

Written as run folders in the real formats; the registry is made from them as `orchestra` makes a
lost one. For screenshots, snapshots and benchmarks; `many` is for registries with many rows.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from orchestra.config.compose import Flag, Request, compose
from orchestra.gpu import lease_file
from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.checkpoints import seal
from orchestra.wire.files import write_json
from orchestra.wire.folders import AttemptFolder, RunFolder
from orchestra.wire.heartbeat import Heartbeat, Phase, pages_folder
from orchestra.wire.identity import ProcessIdentity, self_identity
from orchestra.wire.job import Attempt, EvaluationSpec, JobState
from orchestra.wire.labels import Labels
from orchestra.wire.queue import QueueEntry
from orchestra.wire.records import Record, RecordWriter
from orchestra.wire.stall import StallNotice, remove_stall, write_stall
from orchestra.wire.states import LIVE, AttemptState, RunState
from orchestra.workspace import Workspace, init_workspace
from tests.fakes.nvml import UUIDS, FakeNvml

NOW_S = 1_782_738_000.0
"""The demo's present (Unix time); clocks of pictures stand still here."""
STEPS_PER_EPOCH = 1784
_VALIDATIONS = 20
_COMMIT = "4f2a9c1be07d5386aa41c09be2f1774d8e5b6a30"
_HANG = "rank 2 hung in backward at step 9300: no heartbeat for 64 s; the others waited for it"
_OOM = "out of memory on rank 0 before the first step, with the largest batches (79.1 of 79.3 GiB)"
_ACTION = {
    "hang": "restart 1 of 3 from step 8000",
    "signal": "restart 1 of 3 from step 6000",
    "out of memory": "no restart: it would run out of memory again",
    "nan": "no restart: lower optim.lr, or look at the capsule with `orchestra replay`",
}
_NAN = "the loss was NaN at step 3150 on rank 1, for the 10th time in a row (utterance 1081-125237)"


@dataclass(frozen=True)
class Part:
    """One attempt: from and to which step, and how it ended."""

    first_step: int
    last_step: int
    state: AttemptState = AttemptState.RUNNING
    reason: str = ""
    cause: str = "crash"


@dataclass(frozen=True)
class DemoRun:
    """What is told of one run. Times are hours before the demo's present."""

    id: str
    name: str
    upstream: str
    state: RunState
    parts: tuple[Part, ...] = ()
    asked_h: float = 1.0
    ended_h: float | None = None
    max_steps: int = 40_000
    reason: str = ""
    ranks: int = 0
    """On the GPUs from `gpu` on; 0: it has none yet."""
    gpu: int = 0
    lr: float = 1e-4
    floor: float = 9.0
    """The WER that its curve goes down to."""
    nan: bool = False
    tags: tuple[str, ...] = ()
    remark: str = ""
    evaluated: tuple[str, ...] = ()
    after: str = ""
    orphan: bool = False
    stalled: bool = False

    @property
    def step(self) -> int:
        return self.parts[-1].last_step if self.parts else 0


_CRASHED, _COMPLETED, _STOPPED = (
    AttemptState.CRASHED,
    AttemptState.COMPLETED,
    AttemptState.STOPPED,
)
RUNS = (
    DemoRun(
        *("k3v9", "fbank-baseline", "fbank", RunState.COMPLETED, (Part(0, 40_000, _COMPLETED),)),
        asked_h=30, ended_h=22, ranks=4, floor=23.1, tags=("baseline", "paper"),
        evaluated=("test-clean", "test-other"),
    ),
    DemoRun(
        *("m7qd", "wav2vec2-base", "wav2vec2", RunState.COMPLETED, (Part(0, 40_000, _COMPLETED),)),
        asked_h=26, ended_h=17, ranks=4, gpu=4, floor=6.5, tags=("paper",),
        evaluated=("test-clean", "test-other"),
    ),
    DemoRun(
        *("p2xa", "hubert-large-oom", "hubert-large", RunState.FAILED),
        (Part(0, 0, _CRASHED, _OOM, "out of memory"),),
        asked_h=21, ended_h=20.9, ranks=2, reason=_OOM,
    ),
    DemoRun(
        *("q8wn", "wavlm-lr-1e-2", "wavlm", RunState.FAILED),
        (Part(0, 3_150, _CRASHED, _NAN, "nan"),),
        asked_h=20, ended_h=19, ranks=2, gpu=2, lr=1e-2, floor=60, nan=True, reason=_NAN,
        tags=("sweep-lr",), remark="too high, kept for the figure",
    ),
    DemoRun(
        *("r5tb", "wavlm-lr-1e-3", "wavlm", RunState.STOPPED, (Part(0, 12_400, _STOPPED),)),
        asked_h=19, ended_h=15, ranks=2, gpu=2, lr=1e-3, floor=11, tags=("sweep-lr",),
        reason="stopped by the user",
    ),
    DemoRun(
        *("s1hc", "data2vec-probe", "data2vec", RunState.PREEMPTED, (Part(0, 8_800, _STOPPED),)),
        asked_h=16, ended_h=13, ranks=1, gpu=7, floor=14,
        reason="preempted: the machine shuts down",
    ),
    DemoRun(
        *("t6ze", "hubert-base", "hubert", RunState.RUNNING),
        (Part(0, 9_300, _CRASHED, _HANG, "hang"), Part(8_000, 26_300)),
        asked_h=9, ranks=4, floor=6.4, tags=("paper",), remark="seed 2 of 3",
    ),
    DemoRun(
        *("u4kf", "wavlm-lr-1e-4", "wavlm", RunState.RUNNING, (Part(0, 17_900),)),
        asked_h=6.5, ranks=2, gpu=4, floor=5.9, tags=("sweep-lr", "paper"),
    ),
    DemoRun(
        *("v9mg", "wavlm-lr-3e-4", "wavlm", RunState.RUNNING, (Part(0, 15_200),)),
        asked_h=6.4, ranks=1, gpu=6, lr=3e-4, floor=7.2, stalled=True, tags=("sweep-lr",),
    ),
    DemoRun(
        *("w2ph", "xlsr-300m-czech", "xlsr", RunState.RESTARTING),
        (Part(0, 6_200, _CRASHED, "rank 0 was killed by SIGKILL", "signal"),),
        asked_h=4, ranks=1, gpu=7, floor=18,
        reason="restart 1 of 3 in 12 s, from step 6000: rank 0 was killed by SIGKILL",
    ),
    DemoRun(
        *("x7rj", "mms-1b-probe", "mms", RunState.RUNNING, (Part(0, 2_100),)),
        asked_h=3, ranks=1, floor=21, orphan=True,
    ),
    DemoRun(
        *("y3sk", "hubert-base-seed3", "hubert", RunState.QUEUED),
        asked_h=2, after="t6ze", tags=("paper",), remark="seed 3 of 3",
    ),
    DemoRun("z5un", "wavlm-large-ctc", "wavlm-large", RunState.QUEUED, asked_h=1.2),
)  # fmt: skip


class Demo:
    """A workspace that looks alive while this process holds it."""

    def __init__(self, workspace: Workspace, now_s: float) -> None:
        self.workspace = workspace
        self.now_s = now_s
        self.beats: dict[str, list[Heartbeat]] = {}
        """By run id, of each rank."""

    def beat(self, run_id: str, step: int) -> None:
        """All ranks of a run have come to this step."""
        for heart in self.beats[run_id]:
            heart.beat(step, Phase.FORWARD)


@contextmanager
def demo(
    folder: Path, runs: Sequence[DemoRun] = RUNS, *, live: bool = True, now_s: float = NOW_S
) -> Iterator[Demo]:
    """The workspace in `folder`; with `live` this process beats for the runs at work."""
    with ExitStack() as stack:
        yield _build(init_workspace(folder), runs, now_s, stack if live else None)


def build_demo(folder: Path, runs: Sequence[DemoRun] = RUNS, *, now_s: float = NOW_S) -> Workspace:
    """The workspace in `folder`, without heartbeats."""
    return _build(init_workspace(folder), runs, now_s, None).workspace


@contextmanager
def demo_gpus(
    nvml: FakeNvml, workspace: Workspace, runs: Sequence[DemoRun] = RUNS
) -> Iterator[None]:
    """Eight GPUs; the runs at work have leases on theirs, a stranger's process is on the last.

    The environment must hold `nvml.environment` and a lease folder (ORCHESTRA_LEASES).
    """
    uuids = nvml.idle(8)
    holders = {
        gpu: run for run in runs if run.state in LIVE for gpu in range(run.gpu, run.gpu + run.ranks)
    }
    lines = []
    with ExitStack() as stack:
        for gpu, uuid in enumerate(uuids):
            busy = gpu in holders and not holders[gpu].stalled
            used, load = (61_440 + 731 * gpu, 88 + gpu) if busy else (38_912, 0)
            if gpu not in holders:
                used, load = 3, 0
            lines.append(f"gpu {uuid} 81920 {used} {load} NVIDIA H100 80GB HBM3")
            lines.append(f"power {590 + 9 * gpu if busy else 118} 700")
            lines.append(f"temperature {61 + gpu if busy else 38}")
            if gpu in holders:
                path = lease_file.lock_path(lease_file.machine_folder(), uuid)
                fd = lease_file.lock(path)
                assert fd is not None, f"{path} is held"
                stack.callback(os.close, fd)
                lease_file.write_note(path, holders[gpu].id, workspace.root)
        nvml.write(*lines)
        yield


def many(folder: Path, count: int, *, now_s: float = NOW_S) -> Workspace:
    """A registry of `count` completed runs without folders, made in bulk."""
    workspace = init_workspace(folder)
    workspace.runs.path.mkdir(parents=True, exist_ok=True)
    with open_registry(workspace.runs) as registry:
        registry.create_run(
            NewRun("r000000", "asr-000000", "asr", "wavlm", now_s - 60.0 * count, 4000, "0")
        )
    with contextlib.closing(sqlite3.connect(workspace.runs.registry)) as connection, connection:
        connection.execute(
            "UPDATE runs SET state = 'completed', step = 4000, loss = 0.42, attempt = 1,"
            " score = 7.1, best_score = 7.0, metric = 'wer', git_branch = 'main'"
        )
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        made = {
            "sequence": "i + 1",
            "id": "printf('r%06d', i)",
            "name": "printf('asr-%06d', i)",
            "loss": "0.2 + (i * 7919 % 1000) / 1000.0",
            "score": "5 + (i * 104729 % 2000) / 100.0",
            **{
                name: f"{now_s!r} - 60.0 * ({count} - i) + {late_s}"
                for name, late_s in (
                    *(("created_at", 0), ("queued_at", 0)),
                    *(("started_at", 5), ("ended_at", 3000)),
                )
            },
        }
        values = ", ".join(made.get(column, column) for column in columns)
        connection.execute(
            "WITH RECURSIVE numbers(i) AS"
            " (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < ?)"
            f" INSERT INTO runs ({', '.join(columns)}) SELECT {values} FROM numbers CROSS JOIN runs"
            " WHERE runs.id = 'r000000'",
            (count,),
        )
    return workspace


def _build(
    workspace: Workspace, runs: Sequence[DemoRun], now_s: float, live: ExitStack | None
) -> Demo:
    workspace.runs.path.mkdir(parents=True, exist_ok=True)
    made = Demo(workspace, now_s)
    for number, run in enumerate(runs):
        _write_run(workspace, run, now_s, random.Random(number))
        if live is not None and run.state is RunState.RUNNING:
            made.beats[run.id] = _bring_to_life(run, live)
    with open_registry(workspace.runs) as registry:  # made from the folders
        for run in runs:
            if run.state is RunState.RUNNING:  # a guess that the folders do not hold
                registry.progress(run.id, run.step, {"eta_s": (run.max_steps - run.step) / 1.3})
    return made


def _write_run(workspace: Workspace, run: DemoRun, now_s: float, rng: random.Random) -> None:
    folder = workspace.runs.run(run.id)
    asked_at = now_s - run.asked_h * 3600
    folder.path.mkdir()
    _write_config(workspace, run, folder)
    write_json(
        folder.identity,
        {
            **{"version": 1, "id": run.id, "name": run.name, "task": "asr"},
            **{"upstream": run.upstream, "created_at": asked_at, "argv": _argv(run)},
        },
    )
    git = {"commit": _COMMIT, "branch": "sweep", "dirty": bool(run.tags), "tree": _COMMIT[::-1]}
    write_json(folder.provenance, {**git, "code": _COMMIT[::-1]})
    Labels(tags=tuple(sorted(run.tags)), remark=run.remark).write(folder)
    QueueEntry(after=run.after).write(folder.job)
    ended_at = now_s - run.ended_h * 3600 if run.ended_h is not None else now_s
    store = MetricStore(folder.metrics)
    began_at = asked_at + 20
    for number, part in enumerate(run.parts, 1):
        is_last = number == len(run.parts)
        until = ended_at if is_last else began_at + (ended_at - began_at) * 0.4
        _write_attempt(folder, run, number, part, (began_at, until), store, rng)
        began_at = until + 25
    store.close()
    JobState(
        *(run.state, run.reason, len(run.parts), ended_at if run.parts else asked_at),
        supervisor=_supervisor(run),
    ).write(folder.job)
    for number, split in enumerate(run.evaluated, 1):
        _write_evaluation(folder, number, split, run.floor * (1 if number == 1 else 2.2), ended_at)


def _write_config(workspace: Workspace, run: DemoRun, folder: RunFolder) -> None:
    """As composed from the built-in preset; upstreams need not be on this machine."""
    sets = (
        f"optim.lr={run.lr}",
        f"train.max_steps={run.max_steps}",
        f"launch.nproc={run.ranks or 2}",
        "launch.device='gpu'",
        "seed=1",
    )
    flags = (Flag("schedule.kind", "cosine", "--schedule"),)
    composed = compose(Request(workspace.root, "asr", ("asr",), None, flags, sets))
    folder.job.config.write_bytes(composed.toml)
    write_json(folder.job.origins, composed.origins)


def _argv(run: DemoRun) -> list[str]:
    gpus = str(run.ranks or 2)
    return ["orchestra", "run", "asr", "--upstream", run.upstream, "--gpus", gpus, "--detach"]


def _supervisor(run: DemoRun) -> ProcessIdentity | None:
    if run.state not in LIVE:
        return None
    here = self_identity()
    # No process has started before the machine did.
    return replace(here, start_ticks=0) if run.orphan else here


def _write_attempt(
    folder: RunFolder,
    run: DemoRun,
    number: int,
    part: Part,
    span: tuple[float, float],
    store: MetricStore,
    rng: random.Random,
) -> None:
    place = folder.job.attempt(number)
    place.logs.mkdir(parents=True)
    began_at, ended_at = span
    running = part.state is AttemptState.RUNNING
    Attempt(
        *(number, _tag(run, number), run.ranks),
        devices=tuple(UUIDS[run.gpu : run.gpu + run.ranks]),
        started_at=began_at,
        state=part.state,
        reason=part.reason,
        ended_at=None if running else ended_at,
        first_step=part.first_step,
        last_step=part.last_step,
        ranks=tuple(os.getpid() for _ in range(run.ranks)) if running else (),
        command=("torchrun", f"--nproc-per-node={run.ranks}", "-m", "orchestra.train.rank"),
        failure=_failure(part) if part.reason else None,
    ).write(place)
    records = list(_records(run, part, span, rng))
    store.append(number, records)
    writer = RecordWriter(place.records)
    for record in records:
        writer.write(record)
        if record.kind == "validation" and record.step >= run.step - run.max_steps // 10:
            _write_checkpoint(folder, record.step, record.values["wer"])
    writer.close()
    _write_logs(place, run, part, records)


def _failure(part: Part) -> dict[str, object]:
    return {
        **{"cause": part.cause, "sentence": part.reason, "action": _ACTION[part.cause]},
        **{"said": part.reason, "rank": 0, "pid": 4242, "exit_code": 1, "signal": 0},
        **{"step": part.last_step, "last_lines": [], "samples": [], "capsule": ""},
    }


def _tag(run: DemoRun, number: int) -> str:
    return f"{run.id}.{number}.demo{os.getpid()}"


def _records(
    run: DemoRun, part: Part, span: tuple[float, float], rng: random.Random
) -> Iterator[Record]:
    """A loss that falls, scores that follow it, and NaN towards the end where it is to be so."""
    began_at, ended_at = span
    steps = max(part.last_step - part.first_step, 1)
    every = max(run.max_steps // 400, 1)
    pace = 4 + sum(run.id.encode()) % 7  # no two runs learn alike
    start = {"step": part.first_step, "max_steps": run.max_steps, "world_size": run.ranks}
    yield Record("start", part.first_step, began_at, start)
    for step in range(part.first_step + every, part.last_step + 1, every):
        time_s = began_at + (ended_at - began_at) * (step - part.first_step) / steps
        done = step / run.max_steps
        loss = (
            3.2 * math.exp(-pace * done) + run.floor / 40 + abs(rng.gauss(0, 0.04)) * (1.3 - done)
        )
        if run.nan:
            loss = math.nan if step > part.last_step * 0.92 else loss + 4 * done * rng.random()
        yield Record(
            *("train", step, time_s),
            {
                "loss": loss,
                "lr": run.lr * min(1.0, done * 20) * (1 + math.cos(math.pi * done)) / 2,
                "grad_norm": math.exp(rng.gauss(0, 0.4)),
                "audio_s_per_s": (run.ranks or 1) * rng.gauss(412, 9),
                "steps_per_s": rng.gauss(1.3, 0.02),
                "data_share": abs(rng.gauss(0.02, 0.01)),
                "communication_share": abs(rng.gauss(0.06, 0.01)),
                "memory_bytes": 58_411_000_000 + rng.randrange(10**9),
                "eta_s": (run.max_steps - step) / 1.3,
                "epoch": step / STEPS_PER_EPOCH,
                "skipped": 0,
            },
        )
        if step % (run.max_steps // _VALIDATIONS) == 0:
            wer = run.floor + 80 * math.exp(-1.3 * pace * done) + abs(rng.gauss(0, 0.2))
            scores = {"split": "dev-clean", "wer": wer, "cer": wer / 3.1, "loss": loss}
            yield Record("validation", step, time_s, scores)


def _write_checkpoint(folder: RunFolder, step: int, wer: float) -> None:
    place = folder.checkpoint(step)
    place.mkdir(parents=True, exist_ok=True)
    document = {
        **{"version": 1, "step": step, "score": wer, "metric": "wer", "direction": "min"},
        "files": {"model.safetensors": {"size": 378_000_000, "sha256": "0" * 64}},
    }
    write_json(place / "manifest.json", {**document, "seal": seal(document)})


def _write_logs(place: AttemptFolder, run: DemoRun, part: Part, records: Sequence[Record]) -> None:
    place.agent_log.write_text(f"starting {run.ranks} ranks of {run.name}\n")
    for rank in range(run.ranks):
        lines = [f"INFO rank {rank} of {run.ranks}: {run.upstream}, frozen, 94.4 M parameters"]
        if rank == 0:
            lines += [
                f"INFO train step {record.step} loss {record.values['loss']:.4f} "
                f"lr {record.values['lr']:.2e} {record.values['audio_s_per_s']:.0f} audio s/s"
                for record in records
                if record.kind == "train"
            ]
            lines += [f"ERROR {part.reason}"] if part.reason else []
        place.rank_log(rank).write_text("\n".join(lines) + "\n")


def _write_evaluation(folder: RunFolder, number: int, split: str, wer: float, at_s: float) -> None:
    place = folder.evaluation(number)
    place.path.mkdir(parents=True)
    EvaluationSpec(split, "best", at_s, "run").write(place)
    metrics = {"wer": wer, "cer": wer / 3.2}
    checkpoint = {"step": 38_000, "path": "checkpoints/step-00038000"}
    write_json(place.metrics, {"version": 1, "metrics": metrics, "checkpoint": checkpoint})
    os.utime(place.metrics, (at_s, at_s))


def _bring_to_life(run: DemoRun, stack: ExitStack) -> list[Heartbeat]:
    """Pages of its ranks, and the notice of a stall."""
    pages = pages_folder(_tag(run, len(run.parts)))
    hearts = []
    for rank in range(run.ranks):
        hearts.append(Heartbeat(pages, rank))
        stack.callback(hearts[-1].remove)
        hearts[-1].beat(run.step, Phase.FORWARD)
    if run.stalled:
        up_s = time.monotonic()
        silent = StallNotice(
            *(0, os.getpid(), Phase.BACKWARD, run.step, "S", up_s - 41, up_s + 19),
            action="restart 1 of 3 from step 14000",
        )
        write_stall(pages, silent)
        stack.callback(remove_stall, pages)
    return hearts
