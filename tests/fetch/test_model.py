"""Models from web servers and folders, and from several places at once."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from orchestra.fetch import hashing
from orchestra.fetch.cache import Cache
from orchestra.fetch.model import Model, Wanted, open_model
from orchestra.wire.errors import DataError, NotFoundError, UsageError
from orchestra.wire.files import sha256_of
from orchestra.wire.sources import HubSource, LocalSource, UrlSource, parse_source
from tests.fetch.conftest import Told, model_files, safetensors
from tests.fetch.server import Drop, Server, Status

FILES = model_files()
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
BASE = "/models/mine/"


@pytest.fixture
def web_model(server: Server) -> Server:
    server.files |= {BASE + name: content for name, content in FILES.items()}
    return server


def opened(told: Told, source: str, *, newest: bool = True, **parts: str) -> Model:
    wanted = Wanted(source, parts=parts)
    return open_model(wanted, newest=newest, told=told.sentences.append, web=told.web())


def saved(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_of_a_web_server_is_pinned_file_by_file(web_model: Server, told: Told) -> None:
    model = opened(told, web_model.url + BASE.rstrip("/"))
    assert model.missing_bytes() is None
    assert {p.name: p.read_bytes() for p in model.folder().iterdir()} == FILES
    url = web_model.url + BASE
    names = dict(zip(("config", "preprocessor", "weights"), FILES, strict=True))
    pins = {part: f"{url}{name}#sha256={SHA256[name]}" for part, name in names.items()}
    assert model.pins() == {"revision": None, "parts": pins}
    assert model.identity()["weights_source"] == pins["weights"]
    asked = len(web_model.requests)
    again = opened(told, url, newest=False, **pins)
    assert again.folder() == model.folder()
    assert len(web_model.requests) == asked


def test_a_new_run_asks_whether_a_url_gives_something_else(web_model: Server, told: Told) -> None:
    url, path = web_model.url + BASE, BASE + "model.safetensors"
    first = opened(told, url)
    first.folder()
    opened(told, url).folder()
    assert [a.headers.get("If-None-Match") for a in web_model.requests if a.path == path] == [
        None,
        web_model.etag(path),
    ]
    web_model.files[path] = newer = safetensors(b"z")
    asked = len(web_model.requests)
    running = opened(told, url, newest=False)
    assert running.folder() == first.folder() and len(web_model.requests) == asked
    assert (opened(told, url).folder() / "model.safetensors").read_bytes() == newer


def test_a_pinned_url_that_gives_something_else_is_refused(web_model: Server, told: Told) -> None:
    other = f"{web_model.url}{BASE}model.safetensors#sha256={'1' * 64}"
    with pytest.raises(DataError, match=f"sha256 {'1' * 64} was promised"):
        opened(told, web_model.url + BASE, weights=other).folder()


def test_what_is_kept_serves_when_the_server_is_gone(
    web_model: Server, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = web_model.url + BASE
    del web_model.files[BASE + "preprocessor_config.json"]  # that is remembered too
    folder = opened(told, url).folder()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        web_model.faults[BASE + name] = [Status(503)] * 9
    model = opened(told, url)
    assert model.folder() == folder
    assert sum("can't be reached; what it gave last time is used" in n for n in model.notes) == 3
    monkeypatch.setenv("ORCHESTRA_OFFLINE", "1")
    asked = len(web_model.requests)
    assert opened(told, url).folder() == folder
    assert len(web_model.requests) == asked
    with pytest.raises(NotFoundError, match=r"ORCHESTRA_OFFLINE forbids.*`orchestra fetch http"):
        _ = opened(told, web_model.url + "/models/other/").config


def test_a_model_may_lack_a_preprocessor_but_nothing_else(web_model: Server, told: Told) -> None:
    url = web_model.url + BASE
    del web_model.files[BASE + "preprocessor_config.json"]
    assert opened(told, url).preprocessor is None
    asked = len(web_model.requests)
    assert opened(told, url, newest=False).preprocessor is None
    assert len(web_model.requests) == asked
    del web_model.files[BASE + "model.safetensors"]
    with pytest.raises(UsageError, match=r"has no model\.safetensors: pickled weights are never"):
        opened(told, url).folder()
    del web_model.files[BASE + "config.json"]
    with pytest.raises(UsageError, match=r"has no config\.json"):
        _ = opened(told, url).config


def test_each_part_from_its_own_place(web_model: Server, told: Told, tmp_path: Path) -> None:
    base = saved(tmp_path / "base", FILES)
    config = tmp_path / "my.json"
    config.write_text(json.dumps({**json.loads(FILES["config.json"]), "hidden_size": 16}))
    web_model.files["/files/42"] = weights = safetensors(b"w")
    url = f"{web_model.url}/files/42?download=1"
    model = opened(told, str(base), config=str(config), weights=url)
    folder = model.folder()
    assert json.loads((folder / "config.json").read_bytes())["hidden_size"] == 16
    assert (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "preprocessor_config.json").samefile(base / "preprocessor_config.json")
    pinned = f"{url}#sha256={hashlib.sha256(weights).hexdigest()}"
    assert model.pins()["parts"] == {"config": str(config), "weights": pinned}
    assert model.identity()["source"] == str(base)
    assert model.identity()["weights_source"] == pinned


def test_weights_in_shards(web_model: Server, told: Told, tmp_path: Path) -> None:
    del web_model.files[BASE + "model.safetensors"]
    shards = {f"model-{n}.safetensors": safetensors(bytes([n])) for n in (1, 2)}
    index = {"weight_map": dict(zip("ab", shards, strict=True))}
    web_model.files |= {BASE + name: content for name, content in shards.items()}
    web_model.files[BASE + "model.safetensors.index.json"] = json.dumps(index).encode()
    model = opened(told, web_model.url + BASE)
    assert {*shards, "model.safetensors.index.json"} < {p.name for p in model.folder().iterdir()}
    base = saved(tmp_path / "base", {name: FILES[name] for name in list(FILES)[:2]})
    (tmp_path / "outside.safetensors").write_bytes(safetensors())
    for name in ("../outside.safetensors", "a\n.safetensors", "a?b.safetensors", "config.json"):
        index = {"weight_map": {"a": name}}
        (base / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(UsageError, match=rf"names {re.escape(name)} for weights"):
            opened(told, str(base)).folder()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04 a zip of torch", "it is pickled"),
        (b"\x80\x02 a pickle", "it is pickled"),
        (b"<!DOCTYPE html>log in", "it is a web page"),
        (safetensors()[:-1], "its header promises"),
        (b"", "no safetensors file"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "no safetensors file"),
    ],
)
def test_what_is_no_weights_is_refused_by_its_content(
    web_model: Server, told: Told, content: bytes, said: str
) -> None:
    web_model.files[BASE + "model.safetensors"] = content
    with pytest.raises(DataError, match=said):
        opened(told, web_model.url + BASE).folder()


def test_a_login_page_in_the_place_of_a_config(web_model: Server, told: Told) -> None:
    for content in (b"<html>log in</html>", b"[" * 200_000):
        web_model.files[BASE + "config.json"] = content
        with pytest.raises(DataError, match=r"config\.json: it is not JSON"):
            _ = opened(told, web_model.url + BASE).config


def test_pickled_files_are_refused_by_their_names(tmp_path: Path, told: Told) -> None:
    base = saved(tmp_path / "base", FILES)
    for source in ("https://lab.org/pytorch_model.bin", str(tmp_path / "model.pt")):
        with pytest.raises(UsageError, match="pickled weights are never loaded"):
            opened(told, str(base), weights=source)


def test_a_local_folder_is_used_where_it_is(tmp_path: Path, told: Told) -> None:
    base = saved(tmp_path / "base", FILES)
    model = opened(told, str(base))
    assert model.folder() == base
    assert model.identity()["weights_sha256"] == SHA256["model.safetensors"]
    (base / "model.safetensors").write_bytes(safetensors(b"q"))
    assert opened(told, str(base)).identity() != model.identity()
    # transformers would load the model that an adapter names in the place of this one.
    (base / "adapter_config.json").write_text('{"base_model_name_or_path": "lab/other"}')
    assert {path.name for path in opened(told, str(base)).folder().iterdir()} == set(FILES)


def test_a_cache_of_another_version_or_of_rubbish_counts_as_empty(
    web_model: Server, told: Told, own_cache: Cache
) -> None:
    folder = opened(told, web_model.url + BASE).folder()
    for number, path in enumerate(p for p in own_cache.root.rglob("*.json") if p.is_file()):
        if path.parent.name in ("items", "hashes"):
            path.write_bytes(b"{]" if number % 2 else b'{"version": 9}')
    assert opened(told, web_model.url + BASE, newest=False).folder() == folder


def test_hashes_of_files_that_are_gone_are_forgotten(
    tmp_path: Path, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_MOST_RECORDS", 9)
    kept = [tmp_path / f"kept{number}" for number in range(4)]
    gone = [tmp_path / f"gone{number}" for number in range(5)]
    for path in (*kept, *gone):
        path.write_text(path.name)
        hashing.remembered_sha256(path, own_cache)
    for path in gone:
        path.unlink()
    (own_cache.root / "hashes" / "rubbish.json").write_text("[]")
    kept.append(tmp_path / "newest")
    kept[-1].write_text("newest")
    hashing.remembered_sha256(kept[-1], own_cache)
    records = [json.loads(p.read_bytes()) for p in (own_cache.root / "hashes").iterdir()]
    assert len(records) == 6
    assert {record["path"] for record in records if record} >= {str(path) for path in kept}


def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(
    tmp_path: Path, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"old")

    def meanwhile(file: Path) -> str:
        digest = sha256_of(file)
        file.write_bytes(b"newer")
        return digest

    with monkeypatch.context() as changing:
        changing.setattr(hashing, "sha256_of", meanwhile)
        hashing.remembered_sha256(path, own_cache)
    assert hashing.remembered_sha256(path, own_cache) == hashlib.sha256(b"newer").hexdigest()


def test_a_dropped_download_of_a_model_goes_on(web_model: Server, told: Told) -> None:
    path = BASE + "model.safetensors"
    web_model.faults[path] = [Drop(1234)]
    opened(told, web_model.url + BASE).folder()
    assert web_model.requests[-1].headers["Range"] == "bytes=1234-"


def test_sources_are_told_apart(tmp_path: Path) -> None:
    assert parse_source("lab/model@v2") == HubSource("lab/model", "v2")
    assert parse_source("lab/model", "main") == HubSource("lab/model", "main")
    assert parse_source(str(tmp_path)) == LocalSource(tmp_path)
    hash_ = "0" * 64
    assert parse_source(f"https://a.b/c#sha256={hash_}") == UrlSource("https://a.b/c", hash_)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file:///etc/passwd", "http"),
        ("s3://bucket/model", "http"),
        ("https://me:secret@lab.org/m/", "holds a password or token"),
        ("https://lab.org/m?X-Amz-Signature=secret", "holds a password or token"),
        ("https://lab.org/m#sha256=12", "64 hexadecimal digits"),
        ("https://lab.org/m?X-Amz-Security-Token=secret", "holds a password or token"),
        ("https://lab.org/m?AWSAccessKeyId=secret", "holds a password or token"),
        ("https://lab.org/m?hf_token=secret", "holds a password or token"),
        ("ftp://me:secret@lab.org/m/", "http"),
        ("https://[::1/m?token=secret", "is no URL"),
        ("https:///m", "http"),
    ],
)
def test_urls_that_cannot_be_used(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_source(text)
    assert "secret" not in str(caught.value)


def test_a_query_without_a_secret_is_taken() -> None:
    assert parse_source("https://lab.org/f?download=1&tokenizer=2&keyed=3")


def test_a_revision_is_the_hubs_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"upstream\.revision is of the hub alone"):
        parse_source(str(tmp_path), "main")
