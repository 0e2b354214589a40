from __future__ import annotations

import pytest

from orchestra.schedule.compare import best_of, to_json, value_text
from orchestra.wire.errors import NotFoundError, UsageError
from tests.chaos.sandbox import Sandbox
from tests.schedule.comparing import Bench, by_key


@pytest.fixture
def bench(sandbox: Sandbox) -> Bench:
    bench = Bench(sandbox)
    bench.commit("first", model="one\ntwo\n")
    return bench


def test_only_config_keys_that_differ(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", optim={"lr": 0.0003, "kind": "adamw"}, notes={"x": [1, 2]})
    bench.add("c", seed=7.0)
    found = bench.compare("a", "b", "c")
    assert [side.id for side in found.runs] == ["a", "b", "c"]
    assert by_key(found.config) == {
        "optim.lr": (0.001, 0.0003, 0.001),
        "notes.x": (None, [1, 2], None),
        "seed": (7, 7, 7.0),
    }
    assert found.problems == ()


def test_commits_both_ways_and_the_code(bench: Bench) -> None:
    base = bench.git("rev-parse", "HEAD")
    bench.commit("mine\x1b]0;title\x07", model="one\n2\n")
    bench.add("a")
    bench.git("checkout", "-q", "-b", "other", base)
    bench.commit("theirs 1", more="x\n")
    bench.commit("theirs 2")
    bench.add("b")
    (change,) = bench.compare("a", "b").code
    assert change.same is False and change.patch is None
    assert change.commits_removed is not None and change.commits_added is not None
    assert change.commits_removed.count == 1
    assert [line.split(" ", 1)[1] for line in change.commits_added.newest] == [
        "theirs 2",
        "theirs 1",
    ]
    assert {(file.path, file.added, file.removed) for file in change.files} == {
        ("model.py", 1, 1),
        ("more.py", 1, 0),
    }
    (whole,) = bench.compare("a", "b", whole_code=True).code
    assert whole.patch is not None and "-2\n+two\n" in whole.patch


def test_the_same_code(bench: Bench) -> None:
    bench.add("a")
    bench.add("b")
    found = bench.compare("a", "b")
    assert found.code[0].same is True and found.code[0].files == ()
    assert (found.config, found.environment) == ((), ())


def test_uncommitted_changes_are_part_of_the_code(bench: Bench) -> None:
    job = bench.add("a")
    bench.add("b")
    (bench.root / "model.py").write_text("one\ntwo\nthree\n")
    bench.git("add", "-A")
    tree = bench.git("write-tree")
    bench.provenance(job, tree=tree, code=tree)
    (change,) = bench.compare("b", "a").code
    assert [(file.path, file.added) for file in change.files] == [("model.py", 1)]
    assert change.commits_added is not None and change.commits_added.count == 0


def test_unrelated_histories_have_no_range(bench: Bench) -> None:
    bench.add("a")
    bench.git("checkout", "-q", "--orphan", "new")
    bench.commit("another beginning", other="z\n")
    bench.add("b")
    (change,) = bench.compare("a", "b").code
    assert (change.commits_removed, change.commits_added) == (None, None)
    assert [file.path for file in change.files] == ["other.py"]


def test_no_program_of_the_repository_is_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add("a")
    bench.commit("second", model="changed\n")
    bench.add("b")
    marker = bench.root / "started"
    program = bench.root / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    bench.git("config", "diff.external", str(program))
    bench.git("config", "diff.evil.textconv", str(program))
    bench.git("config", "core.fsmonitor", str(program))
    (bench.root / ".git" / "info" / "attributes").write_text("*.py diff=evil\n")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(program))
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as a hook may set it
    (change,) = bench.compare("a", "b", whole_code=True).code
    assert change.patch is not None and "+changed" in change.patch
    assert not marker.exists()


def test_git_that_can_not_tell_says_so(bench: Bench) -> None:
    bench.add("a")
    job = bench.add("b")
    bench.provenance(job, tree="0" * 40, code="gone")
    (change,) = bench.compare("a", "b").code
    assert change.same is False
    assert change.problem.startswith("git can't compare the code: ")
    bench.provenance(job, tree="files-123", code="files-123-4")
    (change,) = bench.compare("a", "b").code
    assert "files-123-4 in runs/.snapshots" in change.problem
    bench.provenance(job, tree=None)
    (change,) = bench.compare("a", "b").code
    assert (change.same, change.problem) == (None, "the code is not on record")


def test_environment_and_data(bench: Bench) -> None:
    bench.evaluate(bench.add("a"), "test", wer=5.0)
    job = bench.add("b")
    packages = {"torch": "2.14.0", "more": "1"}
    bench.provenance(
        job, environment={"python": {"version": "3.11.2"}, "packages": packages, "gpu_driver": "5"}
    )
    found = bench.compare("a", "b")
    assert by_key(found.environment) == {
        "packages.torch": ("2.13.0", "2.14.0"),
        "packages.more": (None, "1"),
        "gpu_driver": (None, "5"),
    }
    assert by_key(found.data) == {"test.manifest_sha256": ("hash of test", None)}


def test_the_best_score_by_the_tasks_own_direction(bench: Bench) -> None:
    first, second, third = (bench.add(name) for name in "abc")
    bench.evaluate(first, "test", wer=1.0)
    bench.evaluate(first, "test", step=20, wer=6.0, accuracy=0.5)  # the newest counts
    bench.evaluate(second, "test", wer=5.0, accuracy=0.5, other=3.0)
    bench.evaluate(third, "dev", wer=9.0)
    scores = {(each.split, each.metric): each for each in bench.compare("a", "b", "c").scores}
    assert set(scores) == {("test", "wer"), ("test", "accuracy"), ("dev", "wer")}
    wer = scores["test", "wer"]
    assert (wer.direction, wer.values, wer.steps) == ("min", (6.0, 5.0, None), (20, 10, None))
    assert wer.best == (False, True, False)
    assert scores["test", "accuracy"].best == (True, True, False)
    assert scores["dev", "wer"].best == (False, False, False), "nothing to choose from"


@pytest.mark.parametrize(
    ("values", "direction", "best"),
    [
        ((1.0, 2.0), "min", (True, False)),
        ((1.0, 2.0), "max", (False, True)),
        ((1.0, 2.0), None, (False, False)),
        ((float("nan"), 2.0), "min", (False, False)),
        ((float("nan"), 2.0, 3.0), "max", (False, False, True)),
        ((None, 2.0), "min", (False, False)),
    ],
)
def test_best_of(
    values: tuple[float | None, ...], direction: str | None, best: tuple[bool, ...]
) -> None:
    assert best_of(values, direction) == best


def test_last_values_of_curves(bench: Bench) -> None:
    bench.curve(bench.add("a"), loss=1.5)
    bench.curve(bench.add("b"), loss=1.5, lr=0.1)
    assert by_key(bench.compare("a", "b").finals) == {
        "train/loss": (1.5, 1.5),
        "train/lr": (None, 0.1),
    }


def test_damaged_parts_are_told_and_the_rest_stands(bench: Bench) -> None:
    bench.add("a", seed=8)
    job = bench.add("b")
    job.config.write_text("= no toml")
    job.run.metrics.write_bytes(b"no database" * 100)
    job.run.provenance.write_text("{")
    found = bench.compare("a", "b")
    assert len(found.problems) == 3 and all(text.startswith("b: ") for text in found.problems)
    assert by_key(found.config)["seed"] == (8, None)
    assert found.code[0].problem == "the code is not on record"


def test_it_needs_two_different_runs_that_exist(bench: Bench) -> None:
    bench.add("a")
    with pytest.raises(UsageError, match="two different runs"):
        bench.compare("a", "a")
    with pytest.raises(NotFoundError):
        bench.compare("a", "nobody")


def test_json_has_the_runs_order(bench: Bench) -> None:
    bench.add("a")
    bench.add("b", seed=9)
    document = to_json(bench.compare("a", "b"))
    assert [side["id"] for side in document["runs"]] == ["a", "b"]
    assert document["config"] == ({"key": "seed", "values": (7, 9)},)
    assert (document["code"][0]["from"], document["code"][0]["to"]) == ("a", "b")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), ("x y", "x y"), (True, "true"), ([1, "a"], '[1, "a"]')]
)
def test_values_for_people(value: object, text: str) -> None:
    assert value_text(value) == text
