"""The fault matrix: what is injected and what must be seen, and the table of what was.

A test names its fault by the marker `fault`; the fixture `saw` puts what it saw into the table that
the run prints at its end. Rows are of tests that ran; tests/chaos/test_matrix.py sees to it that
each fault has one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

_PROPERTY = "fault"
SHORTLY = 34
"""Characters of a fault's name."""
_WIDTHS = (SHORTLY, 44, 8)


@dataclass(frozen=True)
class Fault:
    """One row."""

    injected: str
    expected: str


_GOES_ON = "restarted from the newest checkpoint, completed"
_SET_ASIDE = "set aside, the one before it used"
_OF_A_RANK = f"class %s, the rank named; {_GOES_ON}"
_HANG = f"class hang, stacks of all ranks; {_GOES_ON}"
_NO_KILL = "same processes, no restart, completed"
FAULTS = {
    # What NVIDIA's resiliency extension injects.
    "GPU error": Fault("RuntimeError with CUDA's text in a step", _OF_A_RANK % "crash"),
    "GPU sleep": Fault("sleep(3) in C, no GIL held, in a step", _HANG),
    "exception": Fault("RuntimeError in a step", _OF_A_RANK % "crash"),
    "async exception": Fault("PyThreadState_SetAsyncExc from a thread", _OF_A_RANK % "crash"),
    "exception from a signal": Fault("a Python handler of SIGUSR2 raises", _OF_A_RANK % "crash"),
    "os.abort": Fault("SIGABRT of a rank by itself", _OF_A_RANK % "signal"),
    "GIL held": Fault("sleep(3) in C, GIL held, for ever", _HANG),
    "segmentation fault": Fault("a rank reads address 0", _OF_A_RANK % "signal"),
    "SIGINT of a rank": Fault("kill -INT", _OF_A_RANK % "crash"),
    "SIGKILL of a rank": Fault("kill -KILL in mid-run", _OF_A_RANK % "signal"),
    "SIGTERM of a rank": Fault("kill -TERM", _OF_A_RANK % "signal"),
    "SIGSTOP of a rank": Fault("kill -STOP", _HANG),
    # Deaths of the rest.
    "SIGKILL of torchrun": Fault("kill -KILL of the agent", "class signal, ranks gone; restarted"),
    "SIGKILL of the launcher": Fault("kill -KILL of orch-launcher", "all gone; a new one, restart"),
    "SIGKILL of a stand-in": Fault("kill -KILL of a torchrun child", "its rank dies too; restart"),
    "SIGKILL of the supervisor": Fault("kill -KILL", "ranks die by the death chain; revived"),
    "SIGKILL of a loader worker": Fault("kill -KILL of a DataLoader worker", _OF_A_RANK % "crash"),
    "SIGSTOP of torchrun": Fault("kill -STOP of the agent", "the ranks' result counts; completed"),
    "SIGSTOP of the launcher": Fault("kill -STOP", "the ranks' result counts; completed"),
    "launcher hangs while it imports": Fault("its import never returns", "class hang; ended"),
    # Moments.
    "SIGKILL in the first step": Fault("before any checkpoint", "restarted from the beginning"),
    "SIGKILL during a save": Fault("in fsync, at each write boundary", "the checkpoint before it"),
    "SIGKILL during load": Fault("while a checkpoint is put back", "restarted from the same one"),
    "SIGKILL during rendezvous": Fault("rank 1 dies while it waits for 0", "rank named; restarted"),
    "SIGKILL during evaluation": Fault("in a validation's forward pass", _GOES_ON),
    # What is hard to kill or to find.
    "deaf to SIGTERM": Fault("Python handler of SIGTERM, stuck in C", "gone at once with its peer"),
    "escaped child": Fault("double fork, setsid, tag inherited", "killed by its tag"),
    "escaped child, no environment": Fault("the same, no environment", "adopted, not killed"),
    "a neighbour with a similar tag": Fault("tags that differ by little", "not touched"),
    # Checkpoints.
    "truncated checkpoint": Fault("the newest one's weights cut in half", _SET_ASIDE),
    "bit flip in a checkpoint": Fault("one bit of the newest one's weights", _SET_ASIDE),
    "empty file in a checkpoint": Fault("the newest one's weights emptied", _SET_ASIDE),
    "checkpoint without manifest": Fault("the newest one's manifest removed", _SET_ASIDE),
    "newest two checkpoints bad": Fault("a bit of each flipped", "both set aside; the third"),
    # Resources.
    "disk full": Fault("no byte left for 10 steps", "training goes on, no save; completed"),
    "read-only folder": Fault("checkpoints/ mounted read-only", "class config: ended"),
    "port taken": Fault("a store on a port that is in use", "class rendezvous; restarted"),
    "foreign MASTER_PORT": Fault("MASTER_PORT of the environment is in use", "not used; completed"),
    "shared memory full": Fault("/dev/shm of one page", "class disk full: ended"),
    "out of memory (torch)": Fault("torch's allocator refuses", "class out of memory; restarted"),
    "out of memory (Python)": Fault("MemoryError", "class out of memory; restarted"),
    "out of memory, oom_split": Fault("split allowed", "micro-batches cut in 2; completed"),
    # Time.
    "clock jump": Fault("wall clock +1 day, then -2 days", _NO_KILL),
    "suspended machine": Fault("all stopped longer than any deadline", _NO_KILL),
    "debugger": Fault("a rank held by ptrace longer than its deadline", _NO_KILL),
    "slow disk": Fault("a save longer than any deadline", _NO_KILL),
    "long evaluation": Fault("an evaluation longer than any deadline", _NO_KILL),
    # Endings.
    "NaN": Fault("the loss is NaN in 20 steps", "class nan: ended, not retried"),
    "failing import": Fault("task.py imports what is not there", "class import: ended"),
    "bad config": Fault("exit code 78", "class config: ended, not retried"),
    "crash loop": Fault("SIGKILL in each attempt, no progress", "ended after launch.max_restarts"),
    "same exception twice": Fault("at the same step", "a deterministic bug: ended"),
    "two jobs at once": Fault("a rank of one is killed", "the other untouched; both completed"),
    "code edited": Fault("the workspace's task.py between attempts", "the submitted code runs"),
    # Negative controls: what is seen without the protection.
    "control: no hang detection": Fault("a hang, deadlines huge", "the run does not end"),
    "control: no death chain": Fault("supervisor killed, ranks not armed", "ranks survive"),
    "control: no new tag": Fault("a forked agent without _retag", "the sweep would miss it"),
}  # fmt: skip

Saw = Callable[..., None]


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Saw:
    """`saw(text, after_s=None, fault=None)`: what was seen of the test's fault, the first if none
    is named."""

    def tell(text: str, after_s: float | None = None, fault: str | None = None) -> None:
        name = fault or _names(request.node)[0]
        assert name in FAULTS
        request.node.user_properties.append((_PROPERTY, json.dumps([name, text, after_s])))

    return tell


@pytest.hookimpl
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each fault of a test has a row, also if the test fails."""
    for name in _names(item):
        assert name in FAULTS, f"tests/chaos/matrix.py has no fault {name!r}"
        item.user_properties.append((_PROPERTY, json.dumps([name, "", None])))


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table."""
    rows = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call" or (report.when == "setup" and outcome != "passed"):
                rows |= _rows(report, outcome)
    if not rows:
        return
    terminalreporter.section(f"fault matrix: {len({name for name, _ in rows})} of {len(FAULTS)}")
    order = list(FAULTS)
    different = {tuple(cells): None for cells in rows.values()}
    for cells in sorted(different, key=lambda cells: order.index(cells[0])):
        widths = (*_WIDTHS, 0)
        terminalreporter.write_line(
            " ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True))
        )


def _names(item: pytest.Item) -> list[str]:
    return [name for mark in item.iter_markers("fault") for name in mark.args]


def _rows(report: pytest.TestReport, outcome: str) -> dict[tuple[str, str], list[str]]:
    """(fault, test) -> fault, injected, seconds, seen."""
    rows = {}
    for key, value in report.user_properties:
        if key != _PROPERTY:
            continue
        name, text, after_s = json.loads(str(value))
        if outcome != "passed":
            text = f"{outcome.upper()}: {report.nodeid}"
        seen = text or f"as it must be: {FAULTS[name].expected}"
        after = "" if after_s is None else f"{after_s:.2f} s"
        rows[name, report.nodeid] = [name, FAULTS[name].injected, after, seen]
    return rows
