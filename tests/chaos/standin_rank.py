"""A rank without torch: it beats, writes records and checkpoints, obeys the stop flag, and fails
on demand. Lies in a sandbox's code snapshot as orchestra/train/rank.py.

The `task` table of the config says what it does:
    steps, save_every
    hold           it stays at this step while the file `hold` is in the job folder
    beats          true: it beats while it is held
    armed          false: the negative control, a rank that outlives its parents
    deaf           true: it does not obey the stop flag
    starts_at      the step, whatever the newest checkpoint is
    faults         list of {attempt, rank, step, how}; attempt 0 means each
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import tomllib
from pathlib import Path

from orchestra.wire import lifeline
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Heartbeat, Phase, pages_folder
from orchestra.wire.job import TAG, Attempt, Result, StopFlag
from orchestra.wire.records import Record, RecordWriter

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
job = Job(arguments["--kind"], Path(arguments["--job"]))
task = tomllib.loads(job.config.read_text())["task"]
if task.get("armed", True):
    lifeline.die_with_parent()

number = int(arguments["--attempt"])
attempt = job.attempt(number)
rank = int(os.environ["RANK"])
log = os.open(attempt.rank_log(rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
pulse = Heartbeat(pages_folder(os.environ[TAG]), rank)
records = RecordWriter(attempt.records) if rank == 0 else None


def record(kind: str, at: int, /, **values: object) -> None:
    if records is not None:
        records.write(Record(kind, at, time.time(), values))


def save(step: int) -> None:
    if rank == 0:
        temporary = job.run.checkpoints / f".new-{step}"
        temporary.mkdir(parents=True, exist_ok=True)
        temporary.rename(job.run.checkpoint(step))
        record(
            "checkpoint",
            step,
            path=f"checkpoints/step-{step:08d}",
            score=float(step),
            best_score=float(step),
            metric="m",
        )


def fail(how: str) -> None:
    print(f"about to {how}", flush=True)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "raise":
        raise RuntimeError("boom")
    elif how.startswith("escape"):  # a grandchild with another session and another parent
        environment = {} if how == "escape_bare" else dict(os.environ)
        if os.fork() == 0:
            os.setsid()
            child = os.fork()
            if child == 0:
                os.execve("/bin/sleep", ["sleep", "600"], environment)
            (job.folder / "escaped.new").write_text(str(child))
            (job.folder / "escaped.new").rename(job.folder / "escaped")
            os._exit(0)
        os.wait()
    elif how == "record":  # as torch's @record does
        said = {"message": "DataError: utterance u7 is broken", "extraInfo": {"timestamp": "0"}}
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps({"message": said}))
        sys.exit(65)
    elif how.startswith("exit"):
        sys.exit(int(how.removeprefix("exit")))
    elif how == "vanish":  # the whole rank ends well but leaves no result
        pulse.beat(0, Phase.DONE)
        sys.exit(0)


def strike(step: int) -> None:
    for fault in task.get("faults", []):
        if (fault["rank"], fault["step"]) == (rank, step) and fault["attempt"] in (0, number):
            fail(fault["how"])


def finish(outcome: str, step: int) -> None:
    if rank == 0:
        Result(outcome, step, task.get("reason", "")).write(attempt)
    pulse.beat(step, Phase.DONE)
    sys.exit(0)


first = task.get("starts_at", Attempt.read(attempt).first_step)  # not the newest: rank 0 is ahead
record("start", first, step=first, max_steps=task["steps"])
if first == 0:
    strike(0)
last = task["steps"] if job.kind == "train" else 0
for step in range(first + 1, last + 1):
    pulse.beat(step, Phase.FORWARD)
    record("train", step, loss=1.0 / step)
    if step % task["save_every"] == 0:
        save(step)
    strike(step)
    while True:
        if not task.get("deaf") and StopFlag.read(job) is not None:
            if rank == 0 and not job.run.checkpoint(step).is_dir():
                save(step)
            finish("stopped", step)
        if step != task.get("hold") or not (job.folder / "hold").exists():
            break
        if task.get("beats"):
            pulse.beat(step, Phase.FORWARD)
        time.sleep(0.01)
    time.sleep(0.005)
if job.kind == "evaluate":
    number = int(job.folder.name)
    done = {"checkpoint": "checkpoints/step-00000010", "checkpoint_step": 10, "metrics": {"m": 2.5}}
    record("evaluation", 1, number=number, split="test", **done)
finish("completed", task["steps"])
