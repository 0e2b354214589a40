"""A run's upstream is fetched before it is queued, pinned in its config and recorded."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.config.schema import FileConfig, HuggingFaceConfig
from orchestra.schedule import upstreams
from orchestra.schedule.preflight import Finding, PreflightError
from orchestra.schedule.submission import Given, Submission
from orchestra.schedule.submit import Plan, plan, plan_rows, staged
from orchestra.wire.errors import ConflictError, NotFoundError
from orchestra.wire.job import TAG
from orchestra.wire.lifeline import PARENT_PID
from orchestra.workspace import Workspace, init_workspace
from tests.fetch.conftest import model_files, safetensors
from tests.fetch.server import HubModel, Server, serving

COMMIT = "a" * 40
FILES = model_files()
WEIGHTS = hashlib.sha256(FILES["model.safetensors"]).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as server:
        server.models["lab/tiny"] = HubModel({COMMIT: FILES}, {"main": COMMIT})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("ORCHESTRA_RUNS_DIR", raising=False)
    made = init_workspace(tmp_path / "workspace")
    subprocess.run(["git", "init", "-q"], cwd=made.root, check=True)
    return made


def submission(upstream: str, **upstream_keys: Any) -> Submission:
    given = [Given(f"upstream.{key}", value, "--x") for key, value in upstream_keys.items()]
    on_cpu = Given("launch.device", "cpu", "--cpu")
    return Submission("example", given=(on_cpu, *given), upstream=upstream, argv=("x",))


@pytest.mark.parametrize(
    ("upstream", "said"),
    [
        (
            FileConfig(name="mine", source="mine.py"),
            "about mine.py in 0.01 s; look at what",
        ),
        (HuggingFaceConfig(name="x", source="lab/x"), "about lab/x in 0.01 s; download it, give"),
    ],
)
def test_who_waits_too_long_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, upstream: FileConfig | HuggingFaceConfig, said: str
) -> None:
    monkeypatch.setattr(upstreams, "DESCRIBE_LIMIT_S", 0.01)
    with pytest.raises(NotFoundError, match=said):
        upstreams.describe(upstream, Path(), newest=False)


def upstream_row(made: Plan) -> str:
    return next(detail for what, detail in plan_rows(made) if what == "upstream")


def test_a_dry_run_tells_the_commit_and_fetches_no_weights(
    workspace: Workspace, hub: Server
) -> None:
    made = plan(workspace, submission("lab/tiny"))
    assert upstream_row(made) == (
        f"lab/tiny = lab/tiny at commit {COMMIT[:12]}, 3 hidden states of 8, 293.0 KiB to download"
    )
    assert tomllib.loads(made.composed.toml.decode())["upstream"]["revision"] == COMMIT
    assert hub.bodies(f"/lfs/{WEIGHTS}") == 0


@pytest.mark.usefixtures("hub")
def test_the_disk_that_the_feature_cache_needs_is_told_before_the_start(
    workspace: Workspace,
) -> None:
    wanted = submission("lab/tiny")
    cached = replace(wanted, sets=("cache.features=true",))
    told: list[str] = []
    plan(workspace, wanted, tell=told.append)
    assert not any("feature cache" in text for text in told)
    plan(workspace, cached, tell=told.append)
    (text,) = [text for text in told if "feature cache" in text]
    assert text.endswith(f"free at {workspace.runs.path}/.features")


def test_a_submitted_run_has_its_upstream_here_pinned_and_recorded(
    workspace: Workspace, hub: Server
) -> None:
    told: list[str] = []
    with staged(workspace, submission("lab/tiny"), told.append) as stage:
        run = stage.commit()
    assert hub.bodies(f"/lfs/{WEIGHTS}") == 1
    assert "to download" in told[0]
    frozen = tomllib.loads(run.folder.job.config.read_text())
    assert frozen["upstream"]["revision"] == COMMIT
    assert json.loads(run.folder.job.origins.read_text())["upstream.revision"] == "fetched"
    record = json.loads(run.folder.provenance.read_text())["upstream"]
    assert record["commit"] == COMMIT
    assert {file["name"]: file["sha256"] for file in record["files"]} == {
        name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()
    }


def test_a_url_is_pinned_by_hash(workspace: Workspace, hub: Server) -> None:
    hub.files |= {f"/m/{name}": content for name, content in FILES.items()}
    with staged(workspace, submission(f"{hub.url}/m/")) as stage:
        parts = stage.plan.composed.config.upstream.model_dump()["parts"]
    assert parts["weights"] == f"{hub.url}/m/model.safetensors#sha256={WEIGHTS}"


def test_an_alias_is_used_said_and_recorded(workspace: Workspace, hub: Server) -> None:
    folder = workspace.root / "models" / "mine"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (workspace.root / "orchestra.toml").write_text('[upstreams]\n"lab/tiny" = "models/mine"\n')
    made = plan(workspace, submission("lab/tiny"))
    assert made.composed.notes[-1] == (
        f"upstream 'lab/tiny' is {folder} (orchestra.toml [upstreams]), not the hub's model"
    )
    assert upstream_row(made).startswith(f"lab/tiny = {folder} in the place of lab/tiny, 3 hidden")
    upstream = tomllib.loads(made.composed.toml.decode())["upstream"]
    assert (upstream["source"], upstream["shadows"]) == (str(folder), "lab/tiny")
    assert made.composed.origins["upstream.source"] == "orchestra.toml [upstreams]"
    # It stands for a part too.
    made = plan(workspace, submission(str(folder), parts={"weights": "lab/tiny"}))
    upstream = tomllib.loads(made.composed.toml.decode())["upstream"]
    assert upstream["parts"] == {"weights": str(folder)} and "shadows" not in upstream
    assert made.composed.notes[-1].startswith("upstream.parts.weights 'lab/tiny' is")
    assert made.composed.origins["upstream.parts.weights"] == "orchestra.toml [upstreams]"
    assert hub.requests == []
    # Who asks for a revision of the hub gets that, and is told.
    for asked in (submission("lab/tiny", revision="main"), submission("lab/tiny@main")):
        made = plan(workspace, asked)
        assert "it is not used, because the config asks for the hub's revision main" in str(
            made.composed.notes
        )
        assert hub.requests != []
        hub.requests.clear()


def test_a_folder_in_the_place_of_a_part_is_said(workspace: Workspace, hub: Server) -> None:
    """Never silently: the hub has a model of that name."""
    folder = workspace.root / "lab" / "tiny"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "mine.json").write_bytes(FILES["config.json"])
    parts = {"weights": "lab/tiny", "config": "lab/tiny/mine.json"}
    made = plan(workspace, submission(f"{hub.url}/m/", parts=parts))
    assert made.composed.notes == (
        f"upstream.parts.weights 'lab/tiny' is {folder} (a folder of that name), not the hub's "
        "model",
    )


def test_another_model_in_the_same_folder_is_noticed(workspace: Workspace, hub: Server) -> None:
    folder = workspace.root / "mine"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    with staged(workspace, submission(str(folder))) as stage:
        upstream = stage.plan.composed.config.upstream
        run = stage.commit().folder
    assert isinstance(upstream, HuggingFaceConfig)

    def again() -> None:
        found = Finding("upstream", "", upstreams.describe(upstream, Path(), newest=False))
        upstreams.fetch_missing(run, upstream, [found], print)

    again()
    (folder / "model.safetensors").write_bytes(safetensors(b"z"))
    with pytest.raises(ConflictError, match=rf"not what run .* was made with \(sha256 {WEIGHTS}\)"):
        again()


def test_what_cannot_be_had_is_one_sentence(
    workspace: Workspace, hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRA_OFFLINE", "1")
    with pytest.raises(PreflightError, match=r"ORCHESTRA_OFFLINE forbids.*`orchestra fetch lab/"):
        plan(workspace, submission("lab/tiny"))
    assert hub.requests == []


def test_an_answer_longer_than_a_pipe_holds_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the list of a model in hundreds of files."""
    answer = "json.dumps(['x' * 99] * 4000)"
    program = f"import json, sys; print('hello', file=sys.stderr); print({answer})"
    monkeypatch.setattr(upstreams, "command", lambda _: [sys.executable, "-c", program])
    said: list[str] = []
    found = upstreams.fetch(HuggingFaceConfig(name="a", source="a/b"), said.append)
    assert (len(found), said) == (4000, ["hello"])


def test_the_program_is_no_rank_and_ends_with_who_started_it(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TAG, "of the job in whose shell this is")
    program = (
        f"import json, os; print(json.dumps([os.environ[{PARENT_PID!r}], {TAG!r} in os.environ]))"
    )
    with monkeypatch.context() as other:
        other.setattr(upstreams, "command", lambda *_: [sys.executable, "-c", program])
        upstream = HuggingFaceConfig(name="a", source="a/b")
        expected: Any = [str(os.getpid()), False]
        assert upstreams.fetch(upstream, print) == expected
        assert upstreams.describe(upstream, Path(), newest=True) == expected
    words = upstreams.command(HuggingFaceConfig(name="a", source="lab/tiny"))
    orphaned = {**os.environ, PARENT_PID: str(os.getppid())}
    assert subprocess.run(words, env=orphaned, check=False).returncode == 1
    assert hub.requests == []
