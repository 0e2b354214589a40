"""The hub, imitated: commits are pinned, files verified, the token stays, pickles are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import hf_hub_download

from orchestra.fetch.cache import Cache
from orchestra.fetch.model import Model, Wanted, open_model
from orchestra.fetch.offline import hub_endpoint
from orchestra.wire.errors import DataError, NotFoundError, OrchestraError, UsageError
from tests.fakes.disk import read_only
from tests.fetch.conftest import Told, model_files
from tests.fetch.server import Drop, HubModel, Server, Status

REPO = "lab/tiny"
MAIN, NEWER, CONVERTED = "a" * 40, "b" * 40, "c" * 40
OLD, NEW = model_files(b"a"), model_files(b"b")
PICKLED = {"pytorch_model.bin": b"\x80"}


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> HubModel:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    model = HubModel({MAIN: OLD, NEWER: NEW}, {"main": MAIN, "v2": NEWER})
    server.models[REPO] = model
    return model


def lfs(files: dict[str, bytes]) -> str:
    """Where the imitated hub has the weights."""
    return f"/lfs/{hashlib.sha256(files['model.safetensors']).hexdigest()}"


def opened(told: Told, revision: str | None = None, *, newest: bool = True, **more: Any) -> Model:
    wanted = Wanted(REPO, revision, **more)
    return open_model(wanted, newest=newest, told=told.sentences.append, web=told.web())


def test_a_model_comes_whole_and_its_commit_is_pinned(
    hub: HubModel, server: Server, told: Told
) -> None:
    model = opened(told)
    folder = model.folder()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == OLD
    assert model.pins() == {"revision": MAIN, "parts": None}
    weights = hashlib.sha256(OLD["model.safetensors"]).hexdigest()
    assert model.identity() | {"config_sha256": ""} == {
        "source": REPO,
        "revision": MAIN,
        "weights_sha256": weights,
        "config_sha256": "",
    }
    assert {file["source"] for file in model.record()} == {f"{REPO}@{MAIN}/{name}" for name in OLD}


def test_what_is_described_fetches_no_weights(hub: HubModel, server: Server, told: Told) -> None:
    model = opened(told)
    assert model.config.size == len(OLD["config.json"]) and model.preprocessor is not None
    assert model.missing_bytes() == len(OLD["model.safetensors"])
    assert server.bodies(lfs(OLD)) == 0


def test_a_pinned_model_needs_no_network_again(hub: HubModel, server: Server, told: Told) -> None:
    opened(told).folder()
    hub.refs["main"] = NEWER
    asked = len(server.requests)
    again = opened(told, MAIN, newest=False)
    assert again.folder().joinpath("model.safetensors").read_bytes() == OLD["model.safetensors"]
    assert again.missing_bytes() == 0
    assert opened(told, newest=False).commit == MAIN  # what goes on does not follow main
    assert len(server.requests) == asked
    assert opened(told).commit == NEWER  # what begins does
    assert opened(told, "v2").commit == NEWER


def test_the_client_of_the_hub_gets_the_same_and_what_it_has_is_used(
    hub: HubModel, server: Server, told: Told, tmp_path: Path
) -> None:
    """The imitation is close enough for the real client; its cache is read, and verified."""
    for name in OLD:
        path = hf_hub_download(
            REPO, name, endpoint=hub_endpoint(), token=False, cache_dir=tmp_path / "hub"
        )
        assert Path(path).read_bytes() == OLD[name]
    assert server.bodies(lfs(OLD)) == 1
    model = opened(told)
    assert model.folder() == tmp_path / "hub" / "models--lab--tiny" / "snapshots" / MAIN
    assert server.bodies(lfs(OLD)) == 1
    blob = (model.folder() / "model.safetensors").resolve()
    blob.write_bytes(NEW["model.safetensors"])
    assert opened(told).folder() != model.folder()
    assert server.bodies(lfs(OLD)) == 2
    assert any("is damaged and is not used" in said for said in told.sentences)


def test_what_the_client_has_serves_without_a_network_if_it_is_all(
    hub: HubModel, server: Server, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(name: str) -> None:
        hf_hub_download(
            REPO, name, endpoint=hub_endpoint(), token=False, cache_dir=tmp_path / "hub"
        )

    get("config.json")
    get("model.safetensors")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NotFoundError, match="HF_HUB_OFFLINE forbids"):
        opened(told)  # it may have a preprocessor that nobody asked for
    monkeypatch.delenv("HF_HUB_OFFLINE")
    get("preprocessor_config.json")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(server.requests)
    model = opened(told)
    assert model.folder().is_dir() and model.commit == MAIN
    assert "HF_HUB_OFFLINE: lab/tiny is taken to be commit" in model.notes[0]
    assert len(server.requests) == asked


@pytest.mark.parametrize("switch", ["ORCHESTRA_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_no_connection_is_attempted(
    hub: HubModel, server: Server, told: Told, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(switch, "1")
    with pytest.raises(NotFoundError, match=rf"{switch} forbids.*`orchestra fetch lab/tiny`"):
        opened(told)
    assert server.requests == []
    monkeypatch.setenv(switch, "0")
    assert opened(told).commit == MAIN
    monkeypatch.setenv(switch, "1")
    asked = len(server.requests)
    known = opened(told)  # its commit is known, its files are not here
    with pytest.raises(NotFoundError, match=rf"config\.json of lab/tiny .*{switch} forbids"):
        known.folder()
    assert len(server.requests) == asked


def test_weights_are_resumed_and_verified(hub: HubModel, server: Server, told: Told) -> None:
    server.faults[lfs(OLD)] = [Drop(1000), Status(503)]
    assert opened(told).folder().is_dir()
    assert server.requests[-1].headers["Range"] == "bytes=1000-"


def test_weights_that_are_not_what_the_hub_lists_are_refused(
    hub: HubModel, server: Server, told: Told, own_cache: Cache
) -> None:
    server.files[lfs(OLD)] = NEW["model.safetensors"]
    with pytest.raises(DataError, match=r"model\.safetensors of lab/tiny: sha256 .* was promised"):
        opened(told).folder()
    names = {path.name for path in (own_cache.root / "blobs").iterdir()}
    assert hashlib.sha256(NEW["model.safetensors"]).hexdigest() not in names


def test_small_files_are_verified_by_gits_hash(hub: HubModel, server: Server, told: Told) -> None:
    server.files[f"/{REPO}/resolve/{MAIN}/config.json"] = OLD["config.json"].replace(b"8", b"9")
    with pytest.raises(DataError, match="git's hash"):
        _ = opened(told).config


def test_a_damaged_blob_is_noticed_and_fetched_again(
    hub: HubModel, server: Server, told: Told
) -> None:
    blob = (opened(told).folder() / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    folder = opened(told, MAIN, newest=False).folder()
    assert (folder / "model.safetensors").read_bytes() == OLD["model.safetensors"]
    assert server.bodies(lfs(OLD)) == 2


def test_the_token_of_the_environment_goes_to_the_hub_alone(
    hub: HubModel, server: Server, told: Told, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    with pytest.raises(NotFoundError, match=r"no model 'lab/tiny' that you may read \(a token in"):
        opened(told)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    model = opened(told)
    model.folder()
    elsewhere = [asked for asked in server.requests if asked.path.startswith("/lfs/")]
    assert elsewhere and "secret" not in str(elsewhere)
    kept = [path.read_bytes() for path in own_cache.root.rglob("*") if path.is_file()]
    assert not any(b"secret" in content for content in kept)
    assert "secret" not in str([told, model.record(), model.identity(), model.pins()])


def test_a_token_that_was_stored_by_others_is_not_used(
    hub: HubModel, server: Server, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_stored")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    hub.token = "hf_stored"
    with pytest.raises(NotFoundError, match="no model 'lab/tiny'"):
        opened(told)
    assert "stored" not in str(server.requests)


def test_a_gated_model_can_be_listed_and_not_read(
    hub: HubModel, server: Server, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/{REPO}/resolve/{MAIN}/config.json"
    for code in (401, 403):  # without a token; with one of somebody who has not agreed
        server.faults[path] = [Status(code, {"X-Error-Code": "GatedRepo"})]
        with pytest.raises(NotFoundError, match=r"lab/tiny asks for consent first.*HF_TOKEN"):
            _ = opened(told).config
        monkeypatch.setenv("HF_TOKEN", "hf_other")


def test_a_token_that_the_hub_does_not_know(
    hub: HubModel, server: Server, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not taken for a hub that can't be reached, whose commit would be the last one known."""
    opened(told)
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    message = "Invalid credentials in Authorization header"
    server.faults[f"/api/models/{REPO}"] = [Status(401, {"X-Error-Message": message})]
    with pytest.raises(NotFoundError, match=r"status 401 for lab/tiny: is the token in HF_TOKEN"):
        opened(told)


@pytest.mark.parametrize("token", ["hf_sec\nret", "hf_secr\u00e9t"])
def test_a_token_that_cannot_be_sent_is_not_told(
    hub: HubModel, server: Server, told: Told, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """Clients say which header they could not send."""
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UsageError, match="HF_TOKEN has a character") as caught:
        opened(told)
    assert "hf_sec" not in str([caught.value, told.sentences]) and server.requests == []


def test_spaces_around_a_token_do_no_harm(
    hub: HubModel, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", " hf_secret\n")
    assert opened(told).folder().is_dir()


def test_what_the_hub_does_not_have(hub: HubModel, told: Told) -> None:
    with pytest.raises(NotFoundError, match="no revision 'v9'"):
        opened(told, "v9")
    with pytest.raises(NotFoundError, match="no model 'lab/none'"):
        open_model(Wanted("lab/none"), told=told.sentences.append, web=told.web())


def test_a_busy_hub_is_asked_again(hub: HubModel, server: Server, told: Told) -> None:
    limited = Status(429, {"RateLimit": '"api";r=0;t=55'})
    server.faults[f"/api/models/{REPO}"] = [Status(503), limited]
    assert opened(told).commit == MAIN
    assert told.pauses_s == [1.0, 55.0]


def test_a_cache_that_can_only_be_read_serves(hub: HubModel, told: Told, own_cache: Cache) -> None:
    folder = opened(told).folder()
    with read_only(own_cache.root):
        assert opened(told).folder() == folder
        assert opened(told, MAIN, newest=False).identity()["revision"] == MAIN
        with pytest.raises(OrchestraError, match=r"cannot write .*ORCHESTRA_CACHE"):
            opened(told, NEWER).folder()


@pytest.mark.parametrize("endpoint", ["http://[", "hub.lab.org", "http://127.0.0.1:1"])
def test_an_endpoint_that_cannot_be_reached(
    told: Told, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(OrchestraError, match=r"reached after 3 tries|can't be used"):
        opened(told)


def test_an_endpoint_that_is_no_hub(hub: HubModel, server: Server, told: Told) -> None:
    server.files[f"/api/models/{REPO}"] = b"<html>welcome</html>"
    with pytest.raises(NotFoundError, match=r"does not answer as a hub does.*HF_ENDPOINT"):
        opened(told)


def test_a_hub_that_names_no_commit(hub: HubModel, server: Server, told: Told) -> None:
    server.files[f"/api/models/{REPO}"] = b'{"id": "lab/tiny", "sha": "../../x", "siblings": []}'
    with pytest.raises(NotFoundError, match=r"names no commit for lab/tiny"):
        opened(told)


def test_a_proxy_that_cannot_be_used(
    hub: HubModel, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    for proxy in ("socks9://me:secret@proxy:1", "socks5://me:secret@proxy:1"):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(UsageError, match="a proxy of the environment can't be used") as caught:
            opened(told)
        assert "secret" not in str(caught.value)


@pytest.fixture
def pickled(hub: HubModel) -> HubModel:
    """Its main has pickled weights; the hub's converter has opened a pull request."""
    small = {name: content for name, content in OLD.items() if name.endswith(".json")}
    hub.commits |= {MAIN: {**small, **PICKLED}, CONVERTED: {**OLD, **PICKLED}}
    hub.refs["refs/pr/3"] = CONVERTED
    hub.discussions = [discussion(3)]
    return hub


def discussion(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "num": number,
        "title": "Adding `safetensors` variant of this model",
        "author": {"name": "SFconvertbot"},
        "status": "open",
        "isPullRequest": True,
        "createdAt": "2026-01-01T00:00:00.000Z",
        **changes,
    }


def test_the_hubs_own_conversion_of_pickled_weights_is_used_and_pinned(
    pickled: HubModel, server: Server, told: Told
) -> None:
    model = opened(told)
    assert model.pins()["revision"] == CONVERTED
    assert "the hub's own conversion" in model.notes[0]
    assert {p.name: p.read_bytes() for p in model.folder().iterdir()} == OLD
    asked = len(server.requests)
    assert opened(told, CONVERTED, newest=False).folder() == model.folder()
    assert len(server.requests) == asked


@pytest.mark.parametrize(
    "found",
    [
        [],
        [discussion(3, author={"name": "somebody"})],
        [discussion(3, status="closed")],
        [discussion(3, title="My weights")],
    ],
    ids=["none", "of somebody else", "closed", "another"],
)
def test_pickled_weights_are_never_loaded(
    pickled: HubModel, server: Server, told: Told, found: list[dict[str, Any]]
) -> None:
    pickled.discussions = found
    with pytest.raises(UsageError, match=r"pickled weights are never loaded: convert them"):
        opened(told)
    assert not any("pytorch_model" in asked.path for asked in server.requests)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "config.json", "preprocessor_config.json"])
def test_a_conversion_of_something_else_is_not_used(
    pickled: HubModel, told: Told, name: str
) -> None:
    pickled.commits[MAIN][name] = b"newer"
    with pytest.raises(UsageError, match="pickled weights are never loaded"):
        opened(told)


def test_a_conversion_is_used_though_main_got_a_readme_since(pickled: HubModel, told: Told) -> None:
    pickled.commits[MAIN]["README.md"] = b"newer"
    assert opened(told).commit == CONVERTED


def test_a_revision_asked_for_is_not_replaced_by_a_conversion(
    pickled: HubModel, told: Told
) -> None:
    with pytest.raises(UsageError, match=r"lab/tiny@a{40} has no model\.safetensors"):
        opened(told, MAIN)
    # Only the config is from there: nothing is to be converted.
    weights = f"{REPO}@refs/pr/3"
    assert opened(told, MAIN, parts={"weights": weights}).folder().is_dir()
