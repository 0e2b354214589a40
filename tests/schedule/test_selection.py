"""What SQLite selects is what a plain reading of the filter's tree selects."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cmp_to_key
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.registry.configs import config_document
from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.query import (
    LONGEST,
    And,
    Anywhere,
    Compares,
    Equals,
    Expression,
    Has,
    InStates,
    Matches,
    Not,
    Or,
    Pattern,
    parse,
    parse_sort,
)
from orchestra.schedule.query_fields import FIELDS, Field, Kind, field_named
from orchestra.schedule.selection import Runs, Selection, selection
from orchestra.wire.errors import UsageError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState

NOW_S = time.time()


@dataclass
class Run:
    """A run as the oracle sees it: values by field name, config, newest results by split."""

    values: dict[str, Any]
    config: dict[str, Any] | None
    where: str
    """The config is in the `registry`, in the `folder` alone, or `nowhere`."""
    results: dict[str, dict[str, float]] = field(default_factory=dict)


def run(
    run_id: str, config: dict[str, Any] | None = None, where: str = "registry", **more: Any
) -> Run:
    values: dict[str, Any] = {
        **dict.fromkeys(FIELDS),
        **{"id": run_id, "name": f"name-{run_id}", "state": RunState.QUEUED, "task": "asr"},
        **{"upstream": "fbank", "note": "", "reason": "", "tag": [], "step": 0, "attempt": 0},
        **{
            "parent": "",
            "member": "",
            "priority": 0,
            "created": NOW_S - 1900.0 * (ord(run_id[0]) - 96),
        },
        **more,
    }
    values["age"] = values["created"]
    return Run(values, config, where)


OPTIM = {"lr": 3e-4, "kind": "adamw", "betas": [0.9, 0.999], "deterministic": True}
RUNS = [
    run("aaa", {"optim": OPTIM, "seed": 7}, name="Probe-1", tag=["paper", "v1"], note="100% a_b"),
    run("bbb", {"optim": {**OPTIM, "lr": 1}}, loss=1.5, score=3.0, best=2.0, metric="wer", gpus=4),
    run("ccc", {"optim": {**OPTIM, "lr": "1"}}, state=RunState.FAILED, reason="rank 1", step=10),
    run("ddd", {"optim": OPTIM}, "folder", state=RunState.RUNNING, started=NOW_S - 100, gpus=0),
    run("eee", None, "nowhere", upstream="/models/WavLM Large", dirty=True, commit="1234abcd"),
    run("fff", {"optim": {"lr": 1e-5}}, dirty=False, branch="main", host="box", loss=float("inf")),
    run("ggg", {"optim": {"lr": -2, "kind": "ÄDAM"}}, task="kws", note="Ünïcode %", tag=["v1.2"]),
    run("hhh", None, "folder", state=RunState.COMPLETED, ended=NOW_S - 10 * 86400, score=-1.0),
]  # fmt: skip
RUNS[5].values |= {"parent": "par1", "member": "task.fold=3"}
RUNS[1].results = {"test-clean": {"wer": 8.5}, "dev": {"wer": 2.0}}
RUNS[2].results = {"test-clean": {"wer": 3.0, "cer": 1.0}}
COLUMNS = {"note": "remark", "branch": "git_branch", "commit": "git_commit", "dirty": "git_dirty",
           "best": "best_score", "created": "created_at", "started": "started_at",
           "ended": "ended_at", "tag": "tags"}  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = RunsFolder(tmp_path_factory.mktemp("selection") / "runs")
    with open_registry(folder) as opened:
        for each in RUNS:
            _write(folder, opened, each)
        yield opened


@pytest.fixture(scope="module")
def runs(registry: Registry) -> Runs:
    return Runs(registry, RunsFolder(registry._database.path.parent))


def _write(folder: RunsFolder, registry: Registry, each: Run) -> None:
    values = each.values
    toml = tomli_w.dumps(each.config or {}).encode()
    document = config_document(toml) if each.where == "registry" else None
    called = [values[name] for name in ("id", "name", "task", "upstream", "created")]
    registry.create_run(NewRun(*called, None, "c" * 64, config=document))
    if each.where == "folder":
        path = folder.run(values["id"]).job.config
        path.parent.mkdir()
        path.write_bytes(toml if each.config else b"no = toml = this")
    row = {COLUMNS.get(name, name): value for name, value in values.items() if name != "age"}
    row["tags"] = json.dumps(row["tags"])
    with sqlite3.connect(folder.registry) as connection:
        sets = ", ".join(f"{name} = ?" for name in row)
        connection.execute(f"UPDATE runs SET {sets} WHERE id = ?", (*row.values(), values["id"]))
    for number, (split, metrics) in enumerate(each.results.items(), 1):
        worse = {name: value + 50 for name, value in metrics.items()}
        for again, found in ((number, worse), (number + 10, metrics)):  # the newest counts
            registry.create_evaluation(values["id"], again, split, "best", state=RunState.RUNNING)
            registry.finish_evaluation(values["id"], again, found, 1)
        # a newer one that is not done has no metrics
        registry.create_evaluation(values["id"], number + 20, split, "best", state=RunState.RUNNING)


# The oracle.


def value(each: Run, of: Field) -> Any:
    if of.kind is Kind.VALUE:
        found: Any = each.config
        for part in of.key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, dict | list):
            return json.dumps(found, separators=(",", ":"), ensure_ascii=False)
        return int(found) if isinstance(found, bool) else found
    if of.split:
        return each.results.get(of.split, {}).get(of.key)
    return each.values[of.name]


def fits(pattern: Pattern, text: Any, *, whole: bool) -> bool:
    if not isinstance(text, str):
        return False
    parts = [re.escape(c) for c in pattern.text]
    if pattern.wild:
        parts = [{r"\*": ".*", r"\?": "."}.get(part, part) for part in parts]
    expression = "".join(parts)
    flags = re.DOTALL | re.IGNORECASE | re.ASCII
    found = re.fullmatch if whole else re.search
    return found(expression, text, flags) is not None


def is_number(found: Any) -> bool:
    return isinstance(found, int | float)


def holds(tree: Expression, each: Run) -> bool:
    match tree:
        case And(terms):
            return all(holds(term, each) for term in terms)
        case Or(terms):
            return any(holds(term, each) for term in terms)
        case Not(term):
            return not holds(term, each)
        case InStates(states):
            return each.values["state"] in states
        case Anywhere(pattern):
            said = [each.values[name] for name in ("id", "name", "task", "upstream", "note")]
            return any(fits(pattern, text, whole=False) for text in [*said, *each.values["tag"]])
        case Has(of):
            found = value(each, of)
            empty = found is None or found == [] or (of.kind is Kind.TEXT and found == "")
            return not empty and (of.kind is not Kind.FLAG or bool(found))
        case Matches(of, pattern, number):
            found = value(each, of)
            texts = found if of.kind is Kind.TAGS else [found]
            same = number is not None and is_number(found) and found == number
            return same or any(fits(pattern, text, whole=pattern.wild) for text in texts)
        case Equals(of, text, number):
            found = value(each, of)
            if of.kind is Kind.TAGS:
                return text in found
            if number is not None and is_number(found):
                return bool(found == number)
            return isinstance(found, str) and found == text
        case Compares(of, operator, number):
            found = value(each, of)
            if not is_number(found):
                return False
            found = NOW_S - found if of.kind is Kind.TIME else found
            return {"<": found < number, "<=": found <= number,
                    ">": found > number, ">=": found >= number}[operator]  # fmt: skip


def selected(runs: Runs, tree: Expression) -> list[str]:
    return sorted(row.id for row in runs.select(Selection(tree)))


def expected(tree: Expression) -> list[str]:
    return sorted(each.values["id"] for each in RUNS if holds(tree, each))


_WORDS = st.sampled_from(
    ["asr", "probe", "PROBE", "name-", "a", "1", "7", "0.0003", "3e-4", "true", "adam*", "*1", "?",
     "%", "_", "100%", "a_b", "ünï*", "'w l'", '"a*"', "v1", "paper", "wavlm", "-2", "[0.9", "main",
     "failed", "running", "2h", "1d", "yes", "no", "inf", "4", "box", "\\"]
)  # fmt: skip
_NAMES = st.sampled_from(
    [*FIELDS, "cfg.optim.lr", "cfg.optim.kind", "cfg.optim", "cfg.optim.betas", "cfg.seed",
     "cfg.optim.deterministic", "cfg.no", "eval.test-clean.wer", "eval.dev.wer", "eval.x.y"]
)  # fmt: skip
_TERMS = (
    _WORDS
    | st.builds("has:{}".format, _NAMES)
    | st.builds(
        "{}{}{}".format, _NAMES, st.sampled_from([":", "=", "!=", "<", "<=", ">", ">="]), _WORDS
    )
)
_QUERIES = st.recursive(
    _TERMS,
    lambda inner: (
        st.builds("{} {}".format, inner, inner)
        | st.builds("{} or {}".format, inner, inner)
        | st.builds("-{}".format, inner)
        | st.builds("({})".format, inner)
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(query=_QUERIES | st.text(max_size=20))
@example(query="cfg.optim.lr>0")
@example(query="cfg.optim.lr:1")
@example(query="cfg.optim.lr!=1")
@example(query="cfg.optim.deterministic=true")
@example(query="eval.test-clean.wer<5")
@example(query="-loss>1 -has:dirty")
@example(query="a " * (LONGEST // 2))
@example(query="a or " * (LONGEST // 5 - 1) + "a")
@example(query="-(" * 50 + "aaa" + ")" * 50)
def test_sqlite_selects_what_the_tree_says(runs: Runs, query: str) -> None:
    try:
        tree = parse(query)
    except UsageError:
        return
    assert selected(runs, tree) == expected(tree)


def test_each_field_is_known_to_sqlite(runs: Runs) -> None:
    """And each finds something and leaves something out: the oracle is not blind."""
    for name, query in {
        "id": "id:aaa", "name": "name:probe", "task": "task:kws", "upstream": "upstream:wavlm*",
        "note": "-has:note", "reason": "reason:rank", "branch": "branch:main", "host": "host:box",
        "commit": "commit:1234", "metric": "metric:wer", "tag": "tag:v1*", "state": "state:queued",
        "dirty": "dirty:yes", "gpus": "gpus>=0", "priority": "priority>0 or id:b",
        "attempt": "attempt>0 or id:b", "step": "step>9", "loss": "loss<inf", "score": "score<0",
        "best": "best<3", "age": "age>59m", "created": "created<2h", "started": "started<2h",
        "ended": "ended>1w",
    }.items():  # fmt: skip
        assert name in FIELDS
        tree = parse(query)
        assert selected(runs, tree) == expected(tree)
    assert 0 < len(selected(runs, parse("gpus>=0"))) < len(RUNS)


def test_config_and_results(runs: Runs) -> None:
    for query, ids in {
        "cfg.optim.lr>1e-4": ["aaa", "bbb", "ddd"],
        "cfg.optim.lr=1": ["bbb", "ccc"],
        "cfg.optim.kind:ADAM*": ["aaa", "bbb", "ccc", "ddd"],
        "cfg.optim.deterministic=true": ["aaa", "bbb", "ccc", "ddd"],
        "cfg.optim.betas:0.999": ["aaa", "bbb", "ccc", "ddd"],
        "has:cfg.seed": ["aaa"],
        "has:dirty": ["eee"],
        "dirty:no": ["fff"],
        "eval.test-clean.wer<5": ["ccc"],
        "eval.test-clean.wer>5": ["bbb"],
    }.items():
        assert selected(runs, parse(query)) == ids, query


def test_a_config_that_an_older_process_changed_is_read_anew(tmp_path: Path) -> None:
    """It knows no column for it: what the registry holds is the old one."""
    folder = RunsFolder(tmp_path / "runs")
    config = folder.run("r1").job.config
    config.parent.mkdir(parents=True)
    with open_registry(folder) as registry:
        registry.create_run(NewRun("r1", "r1", "t", "u", 0.0, 1, "old", config='{"seed":1}'))
        runs = Runs(registry, folder)
        assert selected(runs, parse("cfg.seed=1")) == ["r1"]
        config.write_text("seed = 2\n")
        with sqlite3.connect(folder.registry) as older:
            older.execute("UPDATE runs SET config_sha256 = 'new'")
        assert selected(runs, parse("cfg.seed=1")) == []
        assert selected(runs, parse("cfg.seed=2")) == ["r1"]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("name", [*FIELDS, "cfg.optim.lr", "cfg.seed", "eval.test-clean.wer"])
def test_order(runs: Runs, name: str, descending: bool) -> None:
    found = field_named(name)
    assert found is not None
    newest = {each.values["id"]: -number for number, each in enumerate(RUNS)}

    def key(each: Run) -> Any:
        got = value(each, found)
        if found.kind is Kind.TAGS:
            got = json.dumps(got) if got else None
        got = NOW_S - got if name == "age" else got
        return got.lower() if isinstance(got, str) else got

    def compare(one: Run, other: Run) -> int:
        a, b = key(one), key(other)
        if (a in (None, "")) != (b in (None, "")):
            return 1 if a in (None, "") else -1  # what has none comes last, in both directions
        if a == b:
            return newest[one.values["id"]] - newest[other.values["id"]]
        less = is_number(a) if is_number(a) != is_number(b) else a < b
        return 1 if less == descending else -1

    wanted = [each.values["id"] for each in sorted(RUNS, key=cmp_to_key(compare))]
    sort = parse_sort(f"-{name}" if descending else name)
    assert [row.id for row in runs.select(Selection(sort=sort))] == wanted


def test_limit_offset_count_and_states(runs: Runs) -> None:
    newest = [each.values["id"] for each in reversed(RUNS)]
    assert [row.id for row in runs.select(Selection(), limit=2)] == newest[:2]
    assert [row.id for row in runs.select(Selection(), limit=2, offset=1)] == newest[1:3]
    assert runs.count(Selection()) == len(RUNS)
    assert runs.count(selection("probe")) == 1
    only = selection("task:asr", states=[RunState.RUNNING, RunState.COMPLETED])
    assert [row.id for row in runs.select(only)] == ["hhh", "ddd"]


def test_the_newest_and_what_has_not_ended(runs: Runs) -> None:
    shown = [row.id for row in runs.newest_and_unfinished(Selection(), limit=1)]
    assert shown == ["hhh", "ggg", "fff", "eee", "ddd", "bbb", "aaa"]
    shown = [row.id for row in runs.newest_and_unfinished(selection("id:a or id:c"), limit=1)]
    assert shown == ["ccc", "aaa"]


def test_values_for_columns(runs: Runs) -> None:
    names = ["cfg.optim.lr", "eval.dev.wer", "name"]
    assert runs.values(names, ["aaa", "bbb", "zzz"]) == {
        "aaa": {"cfg.optim.lr": 3e-4, "eval.dev.wer": None, "name": "Probe-1"},
        "bbb": {"cfg.optim.lr": 1, "eval.dev.wer": 2.0, "name": "name-bbb"},
    }
    assert runs.values(names, []) == runs.values([], ["aaa"]) == {}
    with pytest.raises(UsageError, match="no field 'nme'"):
        runs.values(["nme"], ["aaa"])


def test_many_stars_cost_little(tmp_path: Path) -> None:
    """A matcher that tries every way would not come back."""
    folder = RunsFolder(tmp_path / "runs")
    with open_registry(folder) as registry:
        registry.create_run(NewRun("r1", "r1", "t", "u", 0.0, 1, "0", remark="a" * 2000))
        assert Runs(registry, folder).count(selection(f"note:{'*a' * 400}b")) == 0


def test_counts_by_state(registry: Registry) -> None:
    assert registry.counts_by_state() == {
        RunState.QUEUED: 5,
        RunState.FAILED: 1,
        RunState.RUNNING: 1,
        RunState.COMPLETED: 1,
    }


def test_a_change_by_another_is_noticed(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path / "runs")
    with open_registry(folder) as ours, open_registry(folder) as other:
        before = ours.generation()
        assert ours.generation() == before
        other.create_run(NewRun("r1", "r1", "t", "u", 0.0, 1, "0"))
        assert (after := ours.generation()) != before
        row = ours.get_run("r1")
        other.add_event("r1", "notice", "x")
        assert ours.generation() != after
        assert ours.get_run("r1") is row, "what has not changed is the same object"
        other.transition(JobKey("r1"), {RunState.QUEUED}, RunState.FAILED)
        assert ours.get_run("r1").state is RunState.FAILED
