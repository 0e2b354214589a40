"""Texts that attack a terminal or a program which draws them, and a run folder full of them."""

from __future__ import annotations

from dataclasses import replace

import tomli_w

from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.files import write_json
from orchestra.wire.job import Attempt
from orchestra.wire.records import Record
from orchestra.wire.states import AttemptState, RunState
from orchestra.workspace import Workspace

RUN = "abcd2345"
OTHER = "bcde3456"
MARKER = "PWNED"
ATTACKS = (
    f"\x1b]52;c;{MARKER}\x07",
    f"\x1b]0;{MARKER}\x1b\\",
    "\x1b[2J\x1b[1;1H",
    f"\x9d52;c;{MARKER}\x9c",
    "\x9b2J",
    f"\x1bP$q{MARKER}\x1b\\",
    f"\x1b_G{MARKER}\x1b\\",
    f"\x1b]8;;file:///{MARKER}\x1b\\link\x1b]8;;\x1b\\",
    "[/foo]",
    "[@click=app.quit]x[/]",
    "[bold red]$name[/",
    "\\[/b]",
    "\u202egnp\u2066\u200f\ufeff\U000e0041",
    "\x00\x07\x08\x7f",
    "\udc9b\u2028\u2029",
)
HOSTILE = " ".join(ATTACKS)


def _failed(text: str) -> Attempt:
    return Attempt(
        *(1, "tag", 1, (), 0.0),
        state=AttemptState.CRASHED,
        reason=f"ATTEMPT{text}",
        ended_at=1.0,
        command=("torchrun", text),
        failure={
            "cause": f"cause{text}",
            "sentence": f"SENTENCE{text}",
            "action": f"action{text}",
            "rank": 0,
            "last_lines": [f"LASTWORD{text}", *ATTACKS[:-1]],
        },
    )


def write_hostile_run(workspace: Workspace) -> None:
    """A failed run whose name, branch, reason, events and logs are all of that kind."""
    text = HOSTILE.encode(errors="replace").decode()  # SQLite takes no lone surrogates
    text = text.replace("\x00", "")
    key = JobKey(RUN)
    with open_registry(workspace.runs) as registry:
        new = NewRun(RUN, f"NAME{text}", "example", f"up{text}", 0.0, 10, "00", metric=f"wer{text}")
        registry.create_run(replace(new, git_commit="0" * 40, git_branch=f"branch{text}"))
        registry.create_run(NewRun(OTHER, "OTHER", "example", "fbank", 1.0, 10, "00"))
        registry.relabel(RUN, name=new.name, tags=(f"tag{text}", "TAG"), remark=f"NOTE{text}")
        registry.create_evaluation(RUN, 1, f"split{text}", f"best{text}")
        registry.finish_evaluation(RUN, 1, {f"wer{text}": 3.0}, 10)
        registry.start_attempt(key, Attempt(1, "tag", 1, (), 0.0, command=("torchrun", text)))
        registry.end_attempt(key, _failed(text))
        registry.add_event(RUN, f"notice{text}", f"EVENT{text}")
        registry.transition(key, RunState, RunState.FAILED, reason=f"REASON{text}")
    run = workspace.runs.run(RUN)
    attempt = run.job.attempt(1)
    attempt.logs.mkdir(parents=True)
    write_json(run.identity, {"version": 1, "id": RUN, "argv": ["orchestra", text]})
    lines = [*ATTACKS, f"START {HOSTILE} END", "x" * 100_000, "\x00" * 5000, f"\x1b[32m{HOSTILE}"]
    told = {
        "commit": text,
        "branch": text,
        "dirty": True,
        "code": text,
        "environment": {text: text},
    }
    write_json(run.provenance, told)
    run.patch.write_text(f"+{text}\n", encoding="utf-8", errors="replace")
    run.job.config.write_text(tomli_w.dumps({"task": {text: text}, "launch": {"device": text}}))
    write_json(run.job.origins, {f"task.{text}": text})
    store = MetricStore(run.metrics)
    point = {"loss": 1.0, f"METRIC{text}": 2.0}
    store.append(1, [Record("train", step, float(step), point) for step in (1, 2, 3)])
    store.close()
    data = "\n".join(lines).encode(errors="surrogateescape") + b"\xff\xfe\x9b2J\nLASTLINE\n"
    for path in (attempt.rank_log(0), attempt.agent_log, run.job.supervisor_log):
        path.write_bytes(data)
