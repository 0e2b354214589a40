"""Two processes race a thousand times for overlapping pairs of three fake GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestra.gpu.lease_file import FOLDER
from orchestra.gpu.leases import Leases
from tests.benchmarks.table import Row
from tests.fakes.nvml import FakeNvml, build

ROUNDS = 1000

#: Each line: try to lease the devices at these positions, say what was won, hold until the next.
RACER = """
import json, sys, time
from pathlib import Path
from orchestra.gpu.leases import Leases
from orchestra.gpu.probe import Prober
from orchestra.wire.errors import ConflictError
prober = Prober()
devices = prober.read().devices
for line in sys.stdin:
    with Leases() as leases:
        started = time.perf_counter()
        try:
            chosen = [devices[place] for place in json.loads(line)]
            leases.take(chosen, prober, "racer", Path("/"), named=False)
        except ConflictError:
            pass
        won = list(leases.hand_over())
        print(json.dumps([won, time.perf_counter() - started]), flush=True)
        sys.stdin.readline()
    print("[]", flush=True)
"""


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fake = FakeNvml(build(folder), folder / "gpus.txt")
        fake.idle(3)
        environment = os.environ | fake.environment | {FOLDER: str(folder / "leases")}
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                text=True,
            )
            for _ in range(2)
        ]
        try:
            return _race(racers, Leases(folder / "leases"))
        finally:
            for racer in racers:
                racer.kill()
                racer.communicate()


def _race(racers: list[subprocess.Popen[str]], leases: Leases) -> list[Row]:
    pairs = ([0, 1], [1, 2], [2, 0])
    twice = nobody = leaked = 0
    costs = []
    for number in range(ROUNDS):
        asked = pairs[number % 3], pairs[number // 3 % 3]
        (first, one_s), (second, other_s) = _tell(racers, *map(json.dumps, asked))
        twice += len(set(first) & set(second))
        nobody += not first and not second
        costs += [one_s, other_s]
        _tell(racers, "release", "release")
        leaked += len(leases.holders())
    median_ms = sorted(costs)[len(costs) // 2] * 1e3
    of = f"{ROUNDS:,} races of two processes"
    return [
        Row("GPUs granted twice", str(twice), "0", of),
        Row("GPUs leaked", str(leaked), "0", of),
        Row("races that nobody won", str(nobody), "0", of),
        Row("one attempt at a lease of two GPUs", f"{median_ms:.1f} ms", "-", "median, fake NVML"),
    ]


def _tell(racers: list[subprocess.Popen[str]], *lines: str) -> list[list[object]]:
    """A line to each before any answer is read."""
    for racer, line in zip(racers, lines, strict=True):
        assert racer.stdin is not None
        racer.stdin.write(f"{line}\n")
        racer.stdin.flush()
    return [json.loads(racer.stdout.readline()) for racer in racers if racer.stdout]
