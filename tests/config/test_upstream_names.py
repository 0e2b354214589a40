"""Names of upstreams: S3PRL's, hub ids, folders; every known table is a valid one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from orchestra.config.schema import FbankConfig, HuggingFaceConfig, UpstreamConfig
from orchestra.config.upstream_names import UPSTREAMS, find_upstream, resolve_upstream
from orchestra.wire.errors import UsageError


@pytest.mark.parametrize("name", [n for i in UPSTREAMS.values() for n in (i.name, *i.aliases)])
def test_every_known_name_is_a_valid_table(name: str, tmp_path: Path) -> None:
    info = find_upstream(name)
    assert info is not None
    adapter: TypeAdapter[FbankConfig | HuggingFaceConfig] = TypeAdapter(UpstreamConfig)
    config = adapter.validate_python(resolve_upstream(name, tmp_path))
    assert config.kind == info.kind
    if isinstance(config, HuggingFaceConfig):
        assert (config.name, config.source) == (name, info.source)


def test_names_mean_what_they_mean_in_s3prl() -> None:
    sources = {name: find_upstream(name) for name in ("wav2vec2", "hubert", "wavlm")}
    assert {name: info and info.source for name, info in sources.items()} == {
        "wav2vec2": "facebook/wav2vec2-base",
        "hubert": "facebook/hubert-base-ls960",
        "wavlm": "microsoft/wavlm-base-plus",
    }


def test_no_name_means_two_things() -> None:
    names = [n for info in UPSTREAMS.values() for n in (info.name, *info.aliases)]
    assert len(names) == len(set(names))


def test_hub_ids_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_upstream("org/model", tmp_path)["source"] == "org/model"
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "org" / "model" / "config.json").touch()
    table = resolve_upstream("org/model", Path("/"))
    assert (table["name"], table["source"]) == ("model", str(tmp_path / "org" / "model"))
    for wrong in ("wavlmm", "./gone", "a/b/c", "/abs"):
        with pytest.raises(UsageError, match="no upstream"):
            resolve_upstream(wrong, tmp_path)
