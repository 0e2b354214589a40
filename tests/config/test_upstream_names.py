"""Names of upstreams: S3PRL's, hub ids, folders, own files; every known table is a valid one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from orchestra.config.absolute import absolute_paths
from orchestra.config.layers import Layer, merge
from orchestra.config.schema import FileConfig, HuggingFaceConfig, UpstreamConfig
from orchestra.config.upstream_names import expand_upstream, own_upstreams, resolve_upstream
from orchestra.config.upstream_table import NOT_LOADABLE, UPSTREAMS, find_upstream, nearest_to
from orchestra.upstreams.families import FAMILIES
from orchestra.wire.errors import UsageError

#: All that S3PRL's hub lists.
S3PRL = (Path(__file__).parent / "s3prl_upstreams.txt").read_text().split()


def validated(table: dict[str, Any]) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(UpstreamConfig)
    return adapter.validate_python(table)


@pytest.mark.parametrize("name", [n for i in UPSTREAMS.values() for n in (i.name, *i.aliases)])
def test_every_known_name_is_a_valid_table(name: str, tmp_path: Path) -> None:
    info = find_upstream(name)
    assert info is not None
    config = validated(resolve_upstream(name, tmp_path))
    assert config.kind == info.kind
    if isinstance(config, HuggingFaceConfig):
        assert (config.name, config.source) == (name, info.source)


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "fbank", "name": "fbank", "mels": 80, "deltas": 2, "cmvn": True},
        {
            "kind": "huggingface",
            "name": "wavlm",
            "source": "microsoft/wavlm-base-plus",
            "key": "hidden_states",
            "normalize": False,
            "trainable": False,
        },
    ],
)
def test_tables_that_were_frozen_before_there_were_other_kinds(table: dict[str, Any]) -> None:
    assert validated(table).model_dump(exclude_none=True) == table


def test_names_mean_what_they_mean_in_s3prl() -> None:
    sources = {
        name: find_upstream(name) for name in ("wav2vec2", "hubert", "wavlm", "unispeech_sat")
    }
    assert {name: info and info.source for name, info in sources.items()} == {
        "wav2vec2": "facebook/wav2vec2-base",
        "hubert": "facebook/hubert-base-ls960",
        "wavlm": "microsoft/wavlm-base-plus",
        "unispeech_sat": "microsoft/unispeech-sat-base-plus",
    }
    dims = {"fbank": 240, "mfcc": 39, "mel": 80, "linear": 201, "spectrogram": 257}
    assert {name: UPSTREAMS[name].dim for name in dims} == dims


def test_no_name_means_two_things() -> None:
    names = [n for info in UPSTREAMS.values() for n in (info.name, *info.aliases)]
    assert len(names) == len(set(names))
    assert not {*names} & NOT_LOADABLE.keys()
    assert {*NOT_LOADABLE.values()} <= UPSTREAMS.keys()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("tera", "mel"),
        ("mockingjay_960hr", "mel"),
        ("ssast_frame_base", "ast"),
        ("mos_apc", "mel"),
        ("mos_wav2vec2", "wav2vec2"),
        ("wav2vec2_conformer_large_s2st_en_librilight", "wav2vec2_conformer_relpos"),
    ],
)
def test_what_only_s3prl_can_load_is_said_so(name: str, nearest: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"no upstream '{name}': S3PRL has it.*'{nearest}'"):
        resolve_upstream(name, tmp_path)


@pytest.mark.parametrize(
    "name", ["hf_hubert_custom", "hubert_url", "unispeech_sat_local", "distiller_local"]
)
def test_s3prls_names_for_ones_own_weights_say_what_to_give(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the hub id, URL, folder or Python file itself"):
        resolve_upstream(name, tmp_path)


def test_every_name_of_s3prls_is_loaded_or_refused_with_a_reason(tmp_path: Path) -> None:
    for name in S3PRL:
        if find_upstream(name) is None:
            reason = nearest_to(name) or "give the hub id, URL"
            with pytest.raises(UsageError, match=rf"no upstream '{name}': .*{reason}"):
                resolve_upstream(name, tmp_path)


def test_a_model_that_begins_like_one_of_s3prls_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'wav2vec2'"):
        resolve_upstream("wav2vec22", tmp_path)


def test_the_families_of_known_models_are_those_that_can_be_loaded() -> None:
    families = {info.family for info in UPSTREAMS.values() if info.kind == "huggingface"}
    assert families < FAMILIES.keys()


def test_fbank_after_fbank_no_cmvn_is_normalised_again() -> None:
    layers = [
        Layer(name, {"upstream": expand_upstream({"name": name})}, {})
        for name in ("fbank_no_cmvn", "fbank")
    ]
    assert validated(merge(layers[:1]).document["upstream"]).cmvn is False
    assert validated(merge(layers).document["upstream"]).cmvn is True
    assert expand_upstream({"name": "fbank", "cmvn": False})["cmvn"] is False


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


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With upstreams/mine.py and elsewhere/other.py; the current folder is elsewhere/."""
    for file in ("upstreams/mine.py", "elsewhere/other.py"):
        path = tmp_path / "workspace" / file
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.chdir(tmp_path / "workspace" / "elsewhere")
    return tmp_path / "workspace"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mine", "upstreams/mine.py"),
        ("upstreams/mine.py", "upstreams/mine.py"),
        ("../upstreams/mine.py", "upstreams/mine.py"),
        ("other.py", "elsewhere/other.py"),
    ],
)
def test_an_own_file_is_known_by_its_place_in_the_workspace(
    workspace: Path, name: str, source: str
) -> None:
    config = validated(resolve_upstream(name, workspace))
    assert isinstance(config, FileConfig)
    assert (config.name, config.source) == (Path(source).stem, source)
    absolute = config.model_copy(update={"source": str(workspace / source)})
    assert absolute_paths(absolute, workspace).source == source
    assert absolute_paths(config, workspace).source == source


def test_own_files_are_listed_without_helpers(workspace: Path) -> None:
    (workspace / "upstreams" / "_shared.py").touch()
    assert own_upstreams(workspace) == {"mine": "upstreams/mine.py"}
    assert own_upstreams(workspace / "nowhere") == {}


def test_an_own_file_outside_the_workspace_is_refused(workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "far.py"
    outside.touch()
    with pytest.raises(UsageError, match=r"far\.py is outside the workspace.*copy it to"):
        resolve_upstream(str(outside), workspace)
    (workspace / "link.py").symlink_to(outside)
    with pytest.raises(UsageError, match="outside the workspace"):
        resolve_upstream("../link.py", workspace)
    with pytest.raises(UsageError, match=r"no file 'gone\.py'"):
        resolve_upstream("gone.py", workspace)


def test_an_own_file_with_the_name_of_a_known_upstream_is_refused(workspace: Path) -> None:
    (workspace / "upstreams" / "hubert.py").touch()
    with pytest.raises(UsageError, match=r"'hubert' is a known upstream.*rename the file"):
        resolve_upstream("hubert", workspace)
    assert resolve_upstream("upstreams/hubert.py", workspace)["kind"] == "file"


def test_a_preset_names_an_own_file_as_its_source() -> None:
    table = expand_upstream({"source": "upstreams/mine.py", "options": {"dim": 8}})
    config = validated(table)
    assert (config.kind, config.name, config.options) == ("file", "mine", {"dim": 8})
