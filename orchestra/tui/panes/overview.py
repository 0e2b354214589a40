"""One run at a glance: why it died, where it stands, its attempts as a time line, its code.

The same document as `orchestra show --json`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from textual.content import Content

from orchestra.formats import ago, duration, number, size
from orchestra.registry.store import open_registry
from orchestra.schedule.describe import describe
from orchestra.schedule.parent import Parent, brief_of
from orchestra.tui.looks import doing_of, glyph_of
from orchestra.tui.panes.run_pane import RunPane
from orchestra.tui.table import wrapped
from orchestra.tui.text import join, safe
from orchestra.wire.states import AttemptState

_MOST_ROWS = 4


class OverviewPane(RunPane):
    """What `orchestra show` prints, for the run under the cursor."""

    key: ClassVar[str] = "run"
    title: ClassVar[str] = "run"
    every_s: ClassVar[float] = 3.0
    tells_ages: ClassVar[bool] = True

    def look(self, run_id: str) -> dict[str, Any]:
        with open_registry(self.workspace.runs) as registry:
            found = describe(self.workspace, registry, run_id)
            if found["parent"]:
                parent = Parent(found["parent"], tuple(registry.members(found["parent"])))
                found["family"] = _family(parent, brief_of(self.workspace, registry, parent))
            return found

    def draw(self, found: dict[str, Any]) -> None:
        self.put(list(_lines(found, self.width)))


def _family(parent: Parent, brief: str) -> list[str]:
    """The parent run as a whole."""
    return [
        f"{parent.name}  {parent.id}  {parent.state.value}: {parent.counts}",
        *([brief] if brief else []),
    ]


def _lines(run: dict[str, Any], width: int) -> Iterator[Content]:
    yield join(safe(run["name"], "bold"), safe(run["id"], "$text-muted"), between="  ")
    yield from _why(run, width)
    yield from _facts(run)
    if run.get("family"):
        yield from _section("Parent run")
        yield from map(safe, run["family"])
    yield from _section("Attempts")
    yield from _time_line(run["attempts"], width)
    for attempt in run["attempts"]:
        yield from _attempt(attempt, width)
    if not run["attempts"]:
        yield safe("none yet", "$text-muted")
    yield from _resources(run)
    yield from _checkpoints(run)
    yield from _evaluations(run)


def _why(run: dict[str, Any], width: int) -> Iterator[Content]:
    """The sentence that people open this for."""
    state = "" if run["reason"].startswith(run["state"]) else run["state"]
    words = [word for word in (state, run["where"], run["reason"]) if word]
    yield from wrapped(": ".join(words), width, "bold")


def _facts(run: dict[str, Any]) -> Iterator[Content]:
    progress, git = run["progress"], run["git"]
    most = progress["max_steps"] or "?"
    eta = f", ETA {duration(progress['eta_s'])}" if progress["eta_s"] is not None else ""
    yield _fact("task", f"{run['task']} on {run['upstream']}")
    yield _fact("step", f"{progress['step']} of {most}{eta}")
    metric = run["metric"] or "score"
    best = f"{number(run['score'])}, best {number(run['best_score'])}"
    yield _fact(metric, best)
    if git["commit"]:
        dirty = ", with uncommitted changes" if git["dirty"] else ""
        yield _fact("code", f"{git['commit'][:12]} on {git['branch'] or 'no branch'}{dirty}")
    if waits := run["waits"]:
        yield _fact("waits", waits["reason"])
    if not run["exact"]:
        yield _fact("exact", "no: micro-batches were cut after running out of memory")
    if run["member"]:
        yield _fact("member", run["member"])
    yield _fact("created", ago(run["created_at"]))
    yield _fact("folder", run["folders"]["run"])


def _fact(name: str, value: str) -> Content:
    return join(safe(f"{name:<8}", "$text-muted"), safe(value), between=" ")


def _section(title: str) -> Iterator[Content]:
    yield safe("")
    yield safe(title, "bold")


def _time_line(attempts: list[dict[str, Any]], width: int) -> Iterator[Content]:
    """Each attempt as long as it lasted, from the first start to the last end or now."""
    if len(attempts) < 2:
        return
    spans = [(item["started_at"], item["ended_at"] or time.time()) for item in attempts]
    first, last = spans[0][0], max(end for _, end in spans)
    cells = max(10, width - 2)
    scale = (cells - 1) / max(1e-9, last - first)
    line, free = ["·"] * cells, 0
    for item, (start, end) in zip(attempts, spans, strict=True):
        left = max(free, int((start - first) * scale))
        right = max(left, int((end - first) * scale))
        free = right + 1
        line[left : right + 1] = "━" * (right + 1 - left)
        name = str(item["number"])
        line[left : left + len(name)] = name
        line[right] = _glyph(item)
    yield safe("".join(line[:cells]), "$text-primary")


def _resources(run: dict[str, Any]) -> Iterator[Content]:
    progress = run["progress"]
    told: dict[str, tuple[str, Callable[[float], str]]] = {
        "steps": ("steps_per_s", lambda value: f"{number(value, 3)} a second"),
        "audio": ("audio_s_per_s", lambda value: f"{number(value, 3)} x real time"),
        "data": ("data_share", lambda value: f"{value:.1%} of the time waited for"),
        "ranks": ("communication_share", lambda value: f"{value:.1%} of the time waited for"),
        "memory": ("memory_bytes", size),
        "skipped": ("skipped", lambda value: f"{number(value)} steps (not finite)" * bool(value)),
    }
    found = {
        name: tell(progress[key]) for name, (key, tell) in told.items() if progress[key] is not None
    }
    pids = [str(rank["pid"]) for item in run["attempts"][-1:] for rank in item["ranks"]]
    if pids:
        found["pids"] = ", ".join(pids)
    if any(found.values()):
        yield from _section("Resources")
        yield from (_fact(name, value) for name, value in found.items() if value)


def _checkpoints(run: dict[str, Any]) -> Iterator[Content]:
    """The newest; all of them have a tab of their own."""
    if run["checkpoints"]:
        yield from _section("Checkpoints")
    for item in run["checkpoints"][: -_MOST_ROWS - 1 : -1]:
        score = "" if item["score"] is None else f"  {run['metric'] or ''} {number(item['score'])}"
        yield safe(f"step {item['step']}{score}")


def _evaluations(run: dict[str, Any]) -> Iterator[Content]:
    if run["evaluations"]:
        yield from _section("Evaluations")
    for item in run["evaluations"][: -_MOST_ROWS - 1 : -1]:
        metrics = ", ".join(f"{key} {number(value)}" for key, value in item["metrics"].items())
        yield safe(f"{item['split']}  {metrics or item['state']}")


def _glyph(attempt: dict[str, Any]) -> str:
    return glyph_of(doing_of(AttemptState(attempt["state"])))


def _attempt(attempt: dict[str, Any], width: int) -> Iterator[Content]:
    took = (attempt["ended_at"] or time.time()) - attempt["started_at"]
    ranks = attempt["world_size"]
    head = (
        f"{_glyph(attempt)} {attempt['number']}  {attempt['state']}  "
        f"steps {attempt['first_step']}-{attempt['last_step']}  {duration(took)}  "
        f"{ranks} rank{'s' if ranks != 1 else ''}"
    )
    yield safe(head)
    failure = attempt["failure"]
    reason = failure["sentence"] if failure else attempt["reason"]
    for line in wrapped(reason, width - 2) if reason else ():
        yield join(safe("│ ", "$text-muted"), line)
    for line in wrapped(failure["action"], width - 2) if failure and failure.get("action") else ():
        yield join(safe("└ ", "$text-muted"), line)
