"""A rank that tells what it is trained on and is killed where a test wants it. Environment:

WATCH_LOG    folder; each rank appends a line [step, number of the micro-batch, ids] for each batch
             to rank<k>.jsonl when it has read it (batches of a warm-up are not trained on)
WATCH_KILL   launching.Kill as JSON, or empty
WATCH_ALTER  a guarantee to take away or a fault to put in, or empty
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestra.supervise import tree
from orchestra.wire.folders import Job
from orchestra.wire.job import TAG
from tests.exactness.launching import PATIENCE_S, Kill

if TYPE_CHECKING:
    from orchestra.tasks import Batch

RANK = int(os.environ.get("RANK", "0"))


def main() -> int:
    from orchestra.train import rank

    _watch()
    if alter := os.environ["WATCH_ALTER"]:
        _alter(alter)
    return rank.main()


def _watch() -> None:
    """Look at each batch on its way into a step."""
    from orchestra.train.step import Stepper

    original = Stepper.take

    def take(
        stepper: Any, step: int, numbers: Sequence[int], batches: Iterator[Batch], **asked: Any
    ) -> Any:
        return original(stepper, step, numbers, _told(step, numbers, batches), **asked)

    Stepper.take = take  # type: ignore[method-assign, assignment]


def _told(step: int, numbers: Sequence[int], batches: Iterator[Batch]) -> Iterator[Batch]:
    kill = Kill(**json.loads(os.environ["WATCH_KILL"] or '{"rank": -1, "step": -1}'))
    for index, (number, batch) in enumerate(zip(numbers, batches, strict=False)):
        with (Path(os.environ["WATCH_LOG"]) / f"rank{RANK}.jsonl").open("a") as file:
            file.write(json.dumps([step, number, batch.ids]) + "\n")
        if (kill.rank, kill.step, kill.batch) == (RANK, step, index):
            _die(kill)
        yield batch


def _die(kill: Kill) -> None:
    if kill.once_saved is not None:
        folder = Job("train", Path(sys.argv[sys.argv.index("--job") + 1]))
        deadline = time.monotonic() + PATIENCE_S
        while not folder.run.checkpoint(kill.once_saved).is_dir():
            assert time.monotonic() < deadline, f"no checkpoint of step {kill.once_saved}"
            time.sleep(0.01)
    if kill.everyone:
        tree.sweep(os.environ[TAG], PATIENCE_S, spare=[os.getpid()])
    _die_now()


def _die_now(*arguments: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _alter(alter: str) -> None:
    from orchestra.train import learner, rank, step
    from orchestra.train.warmup import Warm

    if alter == "no-warm-up":
        learner.warm_up = lambda *arguments: Warm([], 0.0)
    elif alter == "no-reseeding":
        step.reseed_step = lambda *arguments: None
    elif alter.startswith("kill-in-save:"):
        _kill_in_save(int(alter.split(":")[1]))
    elif alter == f"kill-in-warm-up:{RANK}":
        learner.warm_up = _die_now
    elif alter == f"kill-in-start:{RANK}":
        rank.main = _die_now
    elif alter.startswith(("kill-in-warm-up:", "kill-in-start:")):
        pass  # another rank
    else:
        raise ValueError(alter)


def _kill_in_save(step: int) -> None:
    """SIGKILL while the checkpoint of `step` has half of the optimizer's file on the disk."""
    original = os.fsync

    def torn(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.name == "optimizer.safetensors" and f"{step:08d}" in path.parent.name:
            os.truncate(path, path.stat().st_size // 2)
            _die_now()
        original(fd)

    os.fsync = torn


if __name__ == "__main__":
    sys.exit(main())
